"""A running sweep: driver, stop rule, supervisor and progress display."""
