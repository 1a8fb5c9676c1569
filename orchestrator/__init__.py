"""Sampling, workers, early stopping, the trial database, queries and the command line."""
