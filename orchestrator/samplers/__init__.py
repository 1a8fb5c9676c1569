"""Samplers: what hyperparameters a trial gets at its budget."""
