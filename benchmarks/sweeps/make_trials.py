"""Write a made-up study of N trials into a trial database: python benchmarks/sweeps/make_trials.py N OUT.db [--seed S]

The rows have the shape of real ones (columns, trajectories, widths, attempts, missing values); their numbers are
invented, so they serve to time queries and reports and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.spec import TrialSpec
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import REPORTS, TRIAL_NAMES, take_trials
from sample_trials import DEVICES, sample_trials
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice

MACHINE = {"name": "made-up", "cpu": "none: invented trials", "cores": 4}
SWEEP = {
    "sweep": {"name": "sample", "seed": 0},
    "task": {"name": "mnist-5k"},
    "network": {"name": "resnet8", "width": 2.0},
    "budgets": {"devices": list(DEVICES)},
}


def write_study(store: Store, frame: pd.DataFrame, name: str) -> None:
    """Write every row of a made-up frame as a trial of a new study."""
    study = store.create_study(
        Study(0, name, SWEEP | {"sweep": {"name": name}}, None, {}, len(frame), {"mcusweep": "0"}, MACHINE, "")
    )
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    take_trials(
        store,
        study,
        [_trial_row({str(name): value for name, value in record.items()}) for record in records],
        trusted=True,
    )


def _trial_row(record: dict[str, Any]) -> dict[str, Any]:
    params = {key[6:]: value for key, value in record.items() if key.startswith("param.") and value is not None}
    spec = TrialSpec(
        task=TaskChoice(name=record["task"]),
        network=NetworkChoice(name=record["network"], width=2.0),
        method=record["method"],
        device=record["device"],
        budget=Budget(flash=record["budget_flash"], sram=record["budget_sram"]),
        hyperparameters=params,
        seed=record["seed"],
        training=TrainingChoice(),
    )
    return {name: record.get(name) for name in TRIAL_NAMES} | {
        "spec_hash": spec.hash(),
        "hyperparameters_json": json.dumps(params),
        "spec_json": spec.canonical(),
        "widths_json": json.dumps(record["widths"]),
        "dense_widths_json": json.dumps(record["dense_widths"]),
        "artifacts_json": "{}",
        "trajectory_json": json.dumps(record["trajectory"]),
        "attempt_rows": [_attempt_row(record)],
    }


def _attempt_row(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "ordinal": 1,
        "lease": record["finished_at"],
        "worker_host": "made-up",
        "worker_pid": 1000 + int(record["worker"].rpartition("-")[2]),
        "started_at": record["started_at"],
        "ended_at": record["finished_at"],
        "reason": record["state"],
        "detail": None,
        REPORTS: [],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trials", type=int)
    parser.add_argument("database", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", default="sample")
    arguments = parser.parse_args()
    try:
        store = Store(f"sqlite:///{arguments.database}", writing=True)
        write_study(store, sample_trials(arguments.trials, arguments.seed, arguments.study), arguments.study)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{arguments.trials} made-up trials in {arguments.database}, study {arguments.study!r}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
