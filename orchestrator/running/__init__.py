"""A running sweep: the driver, its stop rule, its supervisor and what it shows."""
