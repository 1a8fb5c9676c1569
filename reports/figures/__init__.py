"""Figures of a study: one file a figure, one colour a method, every trial shown."""
