"""Samplers: choice of hyperparameters of a trial for its budget."""
