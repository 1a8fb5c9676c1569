"""Recordings of sensors as tables: reading them, cutting them into windows, dealing the windows to splits."""
