"""Comparing methods across tasks, budgets and seeds."""
