"""Planning of a sweep: its trials, budgets and a time estimate, before any trial starts."""
