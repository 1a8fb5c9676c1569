"""Importance of each hyperparameter, by Optuna's PED-ANOVA."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES

FEWEST = 10  # trials; below, the shares say nothing
MOST = 1000  # trials looked at, evenly spread: more change little and take long
_MOST_CHOICES = 64  # of a text; more are names of things, not settings
_FEW_VALUES = 12  # of a number: so few are choices, which the method weighs better than a range


def importances(frame: pd.DataFrame) -> dict[str, float]:
    """Relative importance of each hyperparameter (and of ``method``) for good trials, largest first.

    The score of a trial is its validation accuracy minus the median of its budget, because budgets have a larger effect
    than hyperparameters. Watanabe et al., "PED-ANOVA", IJCAI 2023. Empty with fewer than ten finished trials or fewer
    than two varied parameters.

    Args:
        frame: the trials, from `orchestrator.storage.frames.trials_frame`.
    """
    bounded = frame[[f"budget_{name}" for name in RESOURCES]].notna().any(axis=1)  # not the dense network of a lineage
    trials = frame[frame["val_accuracy"].notna() & bounded]
    if len(trials) > MOST:
        trials = trials.iloc[np.linspace(0, len(trials) - 1, MOST).astype(int)]
    names = [name for name in trials.columns if name.startswith("param.") and trials[name].notna().all()]
    varied = {
        name: distribution
        for name in ("method", *names)
        if (distribution := _distribution(trials[name].tolist())) is not None
    }
    if len(trials) < FEWEST or len(varied) < 2:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = ["device", *(f"budget_{name}" for name in RESOURCES)]
    ahead = trials["val_accuracy"] - trials.groupby(keys, dropna=False)["val_accuracy"].transform("median")
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.create_trial(params=dict(zip(varied, settings, strict=True)), distributions=varied, value=value)
            for value, *settings in zip(ahead.tolist(), *(trials[name].tolist() for name in varied), strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    total = sum(found.values())
    if not np.isfinite(total) or total <= 0:
        return {}
    return {name.removeprefix("param."): share / total for name, share in found.items()}


def _distribution(values: list[Any]) -> Any:
    """The range or choices that hold these values; None where they are all the same."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if len(set(values)) <= _FEW_VALUES:
            return CategoricalDistribution(sorted(set(values))) if len(set(values)) > 1 else None
        low, high = min(values), max(values)
        if not np.isfinite(high - low):
            return None
        return FloatDistribution(low, high, log=low > 0 and high / low >= 10)
    choices = list(dict.fromkeys(values))
    return CategoricalDistribution(choices) if 2 <= len(choices) <= _MOST_CHOICES else None
