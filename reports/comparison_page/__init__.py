"""The page on a comparison across tasks, budgets and seeds."""
