"""Words of the sweep file with a fixed set of values. Light: imports nothing."""

from __future__ import annotations

from enum import StrEnum


class SamplerName(StrEnum):
    """What chooses hyperparameters; see `search_spaces.sweep.SamplerSection`."""

    TPE = "tpe"
    OPTUNA_TPE = "optuna-tpe"
    NSGA2 = "nsga2"
    NSGA3 = "nsga3"
    QMC = "qmc"
    RANDOM = "random"
    GRID = "grid"


class ExecutorName(StrEnum):
    """Where trials run: workers of Ray, processes of this machine, or nowhere."""

    RAY = "ray"
    LOCAL = "local"
    SIMULATED = "simulated"
