"""A real sweep with and without early stopping: hypervolume against CPU time, and the audit of false stops.

    python benchmarks/early_stopping.py WORK_FOLDER [--trials 64] [--output docs/results/early_stopping.csv]
        [--figure docs/images/early_stopping.svg] [--tables-only]

Both sweeps ask for the same random hyperparameters in the same order, so that only the stop rule differs; the one that
stops is given twice the trials. CPU time is that of the worker process, noted at every epoch. Run again, it goes on
where it was. The hypervolume is the mean over the sweep's budgets of the best validation accuracy that fits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from orchestrator.interrupts import Interrupts
from orchestrator.progress import make_watcher
from orchestrator.spec import Rung, TrialResult, TrialSpec
from orchestrator.store import Store
from orchestrator.sweep_run import RunOptions, open_study, run_study
from orchestrator.trials_table import trials_frame
from search_spaces.sweep import SweepConfig

HERE = Path(__file__).resolve().parent
BUDGETS = [{"flash": "6KB"}, {"flash": "12KB"}, {"flash": "24KB"}, {"flash": "12KB", "macs": "30k"}]
HYPERPARAMETERS = {
    "learning_rate": {"low": 0.003, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
}
TITLES = {False: "every trial to its end", True: "with early stopping"}


def timed_trial(spec: TrialSpec, artifacts: Path, report: Callable[[Rung], bool]) -> TrialResult:
    """The sweep's own worker, with its CPU time written beside the trials' files."""
    from orchestrator.worker import run_trial

    begin = time.process_time()
    result = run_trial(spec, artifacts, report)
    artifacts.mkdir(parents=True, exist_ok=True)
    with (artifacts / "cpu.jsonl").open("a") as stream:
        stream.write(json.dumps({"hash": spec.hash(), "cpu_s": time.process_time() - begin}) + "\n")
    return result


def sweep_of(trials: int, stopping: bool) -> SweepConfig:
    """The sweep; one that stops has twice the trials of one that does not."""
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "stopping" if stopping else "whole", "trials": 2 * trials if stopping else trials},
            "task": {"name": "digits"},
            "network": {"name": "plain-cnn", "width": 0.5},
            "budgets": {"list": BUDGETS},
            "methods": {"names": ["differentiable"]},
            "training": {"epochs": 10, "batch_size": 32, "device": "cpu"},
            "hyperparameters": HYPERPARAMETERS,
            "sampler": {"name": "random"},
            "stopping": {"enabled": stopping},
            "workers": {"executor": "local", "count": 1},
        }
    )


def run(folder: Path, trials: int, stopping: bool) -> None:
    """One of the two sweeps, in a database of its own, so that none takes over results of the other."""
    sweep = sweep_of(trials, stopping)
    store = Store(f"sqlite:///{folder}/{sweep.sweep.name}.db", writing=True)
    try:
        options = RunOptions(worker=f"{Path(__file__).stem}:timed_trial")
        run_study(store, open_study(store, sweep), sweep, options, make_watcher(quiet=False), Interrupts())
    finally:
        store.close()


def table(folder: Path, trials: int, stopping: bool) -> pd.DataFrame:
    """The trials in order with their CPU seconds and the sweep's CPU time and hypervolume after each."""
    sweep = sweep_of(trials, stopping)
    store = Store(f"sqlite:///{folder}/{sweep.sweep.name}.db")
    frame = trials_frame(store, store.study(), trajectories=False)
    store.close()
    lines = (folder / f"{sweep.sweep.name}-artifacts" / "cpu.jsonl").read_text().splitlines()
    spent = pd.DataFrame([json.loads(line) for line in lines]).groupby("hash")["cpu_s"].sum()
    frame = frame[frame["state"].isin(("complete", "stopped", "failed", "infeasible"))].sort_values("number")
    frame["cpu_s"] = frame["spec_hash"].map(spent)
    frame["sweep_cpu_s"] = frame["cpu_s"].cumsum()
    frame["stopping"] = stopping
    frame["hypervolume"] = mean_best(frame)
    columns = ["stopping", "number", "budget_flash", "budget_macs", "param.learning_rate", "param.weight_decay",
               "state", "val_accuracy", "accuracy", "flash", "sram", "macs", "cpu_s", "sweep_cpu_s", "hypervolume"]  # fmt: skip
    return frame[columns]


def mean_best(frame: pd.DataFrame) -> list[float]:
    """After each trial: mean over the budgets of the best validation accuracy of a complete trial that fits."""
    budgets = [named.budget for named in sweep_of(1, False).named_budgets()]
    best, after = np.zeros(len(budgets)), []
    for row in frame.itertuples():
        for at, budget in enumerate(budgets):
            bounds = budget.bounds()
            if row.state == "complete" and all(getattr(row, name) <= bound for name, bound in bounds.items()):
                best[at] = max(best[at], row.val_accuracy)
        after.append(float(best.mean()))
    return after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where databases and models lie meanwhile")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs/results/early_stopping.csv")
    parser.add_argument("--figure", type=Path, default=HERE.parent / "docs/images/early_stopping.svg")
    parser.add_argument("--tables-only", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(HERE))
    for stopping in (False, True):
        if not arguments.tables_only:
            run(folder, arguments.trials, stopping)


if __name__ == "__main__":
    main()
