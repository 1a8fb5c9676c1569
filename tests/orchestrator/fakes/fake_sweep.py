"""Sweeps over the fake worker, and a driver in a process of its own that the tests may kill."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pruning.catalogue
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.run import RunOptions, RunSummary, begin_study, run_study, stored_sweep
from orchestrator.running.watcher import Watcher
from orchestrator.storage.store import Store
from pruning.catalogue import MethodEntry
from search_spaces.sweep import SweepConfig

FAKE_METHODS = (
    MethodEntry("fake", "", "for tests"),
    MethodEntry("other", "", "for tests"),
    MethodEntry("heir", "", "for tests", inherits=True),
    MethodEntry("pupil", "", "for tests", taught=True),
)
if FAKE_METHODS[0] not in pruning.catalogue.BUILT_IN:
    pruning.catalogue.BUILT_IN += FAKE_METHODS

OPTIONS = RunOptions(workers=2, executor="local", worker="fake_worker:run_trial")


def make_sweep(
    trials: int = 6, sampler: str = "random", methods: tuple[str, ...] = ("fake",), seed: int = 0, **wishes: Any
) -> SweepConfig:
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "s", "trials": trials, "seed": seed},
            "task": {"name": "mnist-5k"},
            "network": {"name": "resnet8"},
            "budgets": {"list": [{"flash": 65536}, {"flash": 32768, "sram": 40000}]},
            "methods": {"names": list(methods)},
            "hyperparameters": {"quality": {"low": 0.1, "high": 0.9}, "reports": 1, **wishes},
            "sampler": {"name": sampler},
            "stopping": {"enabled": False},
            "workers": {"executor": "local", "max_attempts": 3},
        }
    )


def run(storage: str, sweep: SweepConfig, options: RunOptions = OPTIONS, **more: Any) -> RunSummary:
    """Launch, or continue, a sweep in this process."""
    store = Store(storage, writing=True)
    try:
        study = begin_study(store, sweep, None)
        watcher, interrupts = more.pop("watcher", Watcher()), more.pop("interrupts", Interrupts())
        return run_study(store, study, sweep, options, watcher, interrupts, **more)
    finally:
        store.close()


def main() -> None:
    """``fake_sweep.py STORAGE [WORKERS]`` continues the study of that database."""
    options = replace(OPTIONS, workers=int(sys.argv[2])) if len(sys.argv) > 2 else OPTIONS
    store = Store(sys.argv[1], writing=True)
    study = store.study()
    run_study(store, study, stored_sweep(study), options, Watcher(), Interrupts())


if __name__ == "__main__":
    main()
