"""Baseline compression methods: same data, epochs, augmentation, optimiser, int8 protocol and budget.

Each meets the budget by its own compression parameter, on the same exact bytes as the differentiable job.
docs/protocol.md says what is equal for all of them.
"""
