"""Figures of a study: one file per figure, one colour per method, every trial shown."""
