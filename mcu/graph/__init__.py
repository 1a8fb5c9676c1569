"""Networks as graphs of operators: tracing, lowering, channel groups, schedules."""
