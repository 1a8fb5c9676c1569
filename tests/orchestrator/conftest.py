"""Specs, results and stores for the tests; no torch, no Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcu.budget import Budget
from orchestrator.spec import TrialResult, TrialSpec
from orchestrator.storage.store import Store, Study
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice

FAKES = Path(__file__).parent / "fakes"
sys.path.insert(0, str(FAKES))

MakeSpec = Callable[..., TrialSpec]


@pytest.fixture
def make_spec() -> MakeSpec:
    def make(seed: int = 0, method: str = "differentiable", flash: int = 65536, **hyperparameters: float) -> TrialSpec:
        return TrialSpec(
            task=TaskChoice(name="toy"),
            network=NetworkChoice(name="tiny"),
            method=method,
            budget=Budget(flash=flash, sram=32768),
            hyperparameters=hyperparameters,
            seed=seed,
            training=TrainingChoice(epochs=2),
        )

    return make


@pytest.fixture
def result() -> TrialResult:
    return TrialResult(
        state="complete",
        accuracy=0.9,
        val_accuracy=0.91,
        flash=60000,
        sram=30000,
        macs=1000000,
        violation=0.0,
        feasible=True,
        binding_use=0.96,
        measured=True,
        duration_s=1.5,
        widths={"conv1": 8},
        trajectory=[{"step": 0, "flash": 70000}],
    )


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sweep.db"


@pytest.fixture
def store(storage: str) -> Iterator[Store]:
    store = Store(storage, writing=True)
    yield store
    store.close()


@pytest.fixture
def study(store: Store) -> Study:
    return store.create_study(Study(0, "s", {"a": 1}, None, {}, 4, {"python": "3"}, {"cpus": 2}, ""))
