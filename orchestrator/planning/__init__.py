"""What a sweep will run: its trials, budgets and an estimate, before any of them starts."""
