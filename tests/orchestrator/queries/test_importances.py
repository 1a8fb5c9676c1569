"""Shares of hyperparameters in what separates good trials from the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from orchestrator.queries.importances import importances


def trials(count: int = 200) -> pd.DataFrame:
    """Accuracy depends on the learning rate a lot, on the budget even more, on nothing else."""
    generator = np.random.default_rng(0)
    rate = 10 ** generator.uniform(-3, -1, count)
    large = generator.random(count) < 0.5
    return pd.DataFrame(
        {
            "method": "l1",
            "device": None,
            "budget_flash": np.where(large, 65536, 8192),
            "budget_sram": pd.array([None] * count, dtype="Int64"),
            "budget_macs": pd.array([None] * count, dtype="Int64"),
            "val_accuracy": 0.5 + 0.3 * large - 0.05 * (np.log10(rate) + 1.5) ** 2,
            "param.learning_rate": rate,
            "param.weight_decay": generator.choice([0.0, 1e-4, 1e-3], count),
            "param.fixed": 3,
            "param.now_and_then": [None, 1.0] * (count // 2),
        }
    )


def test_what_matters_gets_the_share_and_the_budget_is_no_hyperparameter():
    found = importances(trials())
    assert set(found) == {"learning_rate", "weight_decay"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["learning_rate"] > 0.8
    assert list(found) == ["learning_rate", "weight_decay"]


def test_few_trials_or_one_thing_that_varies_tell_nothing():
    assert importances(trials(8)) == {}
    assert importances(trials().drop(columns="param.weight_decay")) == {}
    assert importances(trials().assign(val_accuracy=np.nan)) == {}


def test_the_dense_network_of_a_lineage_has_no_hyperparameters_and_hides_none():
    dense = trials(2).assign(method="dense-ptq", budget_flash=None)
    dense["param.learning_rate"] = None
    assert set(importances(pd.concat([dense, trials()], ignore_index=True))) == {"learning_rate", "weight_decay"}
