"""Enumerations of the sweep file. Imports nothing."""

from __future__ import annotations

from enum import StrEnum


class SamplerName(StrEnum):
    """Sampler of hyperparameters; see `search_spaces.sections.SamplerSection`."""

    TPE = "tpe"
    OPTUNA_TPE = "optuna-tpe"
    NSGA2 = "nsga2"
    NSGA3 = "nsga3"
    QMC = "qmc"
    RANDOM = "random"
    GRID = "grid"


class ExecutorName(StrEnum):
    """Where trials run: Ray workers, local processes, or in simulation."""

    RAY = "ray"
    LOCAL = "local"
    SIMULATED = "simulated"
