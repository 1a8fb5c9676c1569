"""Queries of the trial database."""
