"""Where trials run: on Ray, in local processes, or on a simulated clock."""
