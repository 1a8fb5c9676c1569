"""Sensor recordings as tables: reading, windowing, and assigning windows to splits."""
