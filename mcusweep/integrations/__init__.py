"""Pruning inside other people's training frameworks; each needs its extra."""
