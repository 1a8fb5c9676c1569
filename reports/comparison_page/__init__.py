"""The page about a comparison across tasks, budgets and seeds."""
