"""What a sweep may choose: tasks, networks, budgets, hyperparameters; and the sweep file."""
