"""Pruning in other training frameworks; each needs its extra."""
