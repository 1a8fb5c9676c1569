"""The differentiable pruning job and the baseline compression methods."""
