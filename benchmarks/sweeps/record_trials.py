"""Records real trials as a table that sampler and stop rule can be replayed on; resumable, one process.

    python benchmarks/sweeps/record_trials.py WORK_FOLDER [--trials 480] [--output docs/results/sweeps/sampler]

Every trial prunes a small network on the digits task for four epochs, at a budget and at hyperparameters of its own:
budgets are scrambled Sobol points in the logarithm, hyperparameters independent random points (a second Sobol sequence
over the same index would be tied to the first). Run again, it goes on where it was. It writes ``trials.csv``, a row per
trial, and ``curves.csv``, a row per epoch of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from orchestrator.running.interrupts import Interrupts
from orchestrator.running.progress import make_watcher
from orchestrator.running.run import RunOptions, begin_study, run_study
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig

HYPERPARAMETERS = {
    "learning_rate": {"low": 0.003, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
    "warmup": {"low": 0.02, "high": 0.4},
    "pruning": {"low": 0.1, "high": 0.5},
}
BUDGETS = {"flash": ["4KB", "48KB"], "macs": ["15k", "300k"]}
EPOCHS = 4
TRIAL_COLUMNS = {
    "number": "trial",
    "seed": "seed",
    "budget_flash": "budget_flash",
    "budget_macs": "budget_macs",
    **{f"param.{name}": name for name in HYPERPARAMETERS},
    "state": "state",
    "val_accuracy": "val_accuracy",
    "accuracy": "accuracy",
    "flash": "flash",
    "sram": "sram",
    "macs": "macs",
    "duration_s": "duration_s",
}
CURVE_COLUMNS = ("trial", "epochs_done", "val_accuracy", "flash", "sram", "macs")


def sweep_of(trials: int) -> SweepConfig:
    """The sweep whose trials are recorded: a budget for each trial."""
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "recorded", "trials": trials, "seed": 0},
            "task": {"name": "digits"},
            "network": {"name": "plain-cnn", "width": 0.5},
            "budgets": {**BUDGETS, "count": trials, "plan": "sobol"},
            "methods": {"names": ["differentiable"]},
            "training": {"epochs": EPOCHS, "batch_size": 32, "device": "cpu"},
            "hyperparameters": HYPERPARAMETERS,
            "sampler": {"name": "random"},
            "stopping": {"enabled": False},
            "workers": {"executor": "local", "count": 1},
        }
    )


def write_tables(store: Store, folder: Path) -> int:
    """``trials.csv`` and ``curves.csv`` of the trials that have a result; returns how many those are."""
    study = store.study("recorded")
    frame = trials_frame(store, study, trajectories=False)
    done = frame[frame["state"].isin(("complete", "failed", "infeasible"))]
    done = done[list(TRIAL_COLUMNS)].rename(columns=TRIAL_COLUMNS)
    reports = pd.DataFrame(store.epoch_reports(study)).rename(columns={"number": "trial"})
    last = reports.groupby("trial")["ordinal"].transform("max") == reports["ordinal"]
    curves = reports[last & reports["trial"].isin(done["trial"])].sort_values(["trial", "step"])
    folder.mkdir(parents=True, exist_ok=True)
    done.to_csv(folder / "trials.csv", index=False, float_format="%.5g")
    curves[list(CURVE_COLUMNS)].to_csv(folder / "curves.csv", index=False, float_format="%.4g")
    return len(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the database and the models lie meanwhile")
    parser.add_argument("--trials", type=int, default=480)
    parser.add_argument("--output", type=Path, default=Path("docs/results/sweeps/sampler"))
    parser.add_argument("--tables-only", action="store_true", help="write what is there, run nothing")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    store = Store(f"sqlite:///{arguments.folder.resolve()}/recorded.db", writing=not arguments.tables_only)
    try:
        if not arguments.tables_only:
            sweep = sweep_of(arguments.trials)
            study = begin_study(store, sweep)
            run_study(store, study, sweep, RunOptions(), make_watcher(quiet=False), Interrupts())
        print(f"{write_tables(store, arguments.output)} trials in {arguments.output}")
    finally:
        store.close()


if __name__ == "__main__":
    main()
