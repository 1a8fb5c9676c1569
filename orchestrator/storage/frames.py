"""The wide table of trials that queries and reports work on: one SQL statement, one pandas frame."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from sqlalchemy import select

from orchestrator.storage.columns import metric_column
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import RESULT_NUMBERS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store, Study

_PLAIN = (
    "number",
    "state",
    "reason",
    "method",
    "network",
    "task",
    "device",
    "runtime",
    "seed",
    "budget_flash",
    "budget_sram",
    "budget_macs",
    *(column.name for column in RESULT_NUMBERS),
    "dense_flash",
    "dense_sram",
    "dense_macs",
    "attempts",
    "started_at",
    "finished_at",
    "spec_hash",
    "reused_from",
)
_INTEGERS = (
    "budget_flash",
    "budget_sram",
    "budget_macs",
    "flash",
    "sram",
    "sram_activations",
    "flash_firmware",
    "sram_firmware",
    "instructions",
    "macs",
    "dense_flash",
    "dense_sram",
    "dense_macs",
)
_BOOLEANS = ("feasible", "measured")
_JSON = {"widths": "widths_json", "dense_widths": "dense_widths_json", "artifacts": "artifacts_json"}


def trials_frame(store: Store, study: Study | None = None, *, trajectories: bool = True) -> pd.DataFrame:
    """One row per trial of one study, or of all.

    Columns: ``study``, ``number``, those of the trial table, ``param.NAME`` for each hyperparameter, and the
    Python values ``widths``, ``dense_widths``, ``artifacts`` (dicts) and ``trajectory`` (a list of dicts; empty
    without ``trajectories``, which saves reading the longest texts). Absent integers are ``<NA>``.
    """
    columns: list[Any] = [STUDIES.c.name.label("study"), *(TRIALS.c[name] for name in _PLAIN)]
    columns.append(metric_column(store.engine.dialect.name).label("metric"))
    columns += [TRIALS.c.hyperparameters_json, *(TRIALS.c[name] for name in _JSON.values())]
    source = TRIALS.join(STUDIES, STUDIES.c.id == TRIALS.c.study_id)
    if trajectories:
        columns.append(TRAJECTORIES.c.trajectory_json)
        source = source.outerjoin(TRAJECTORIES, TRAJECTORIES.c.trial_id == TRIALS.c.id)
    query = select(*columns).select_from(source).order_by(TRIALS.c.study_id, TRIALS.c.number)
    if study is not None:
        query = query.where(TRIALS.c.study_id == study.id)
    with transaction(store.engine, store.url) as connection:
        result = connection.execute(query)
        frame = pd.DataFrame(result.fetchall(), columns=list(result.keys()), dtype=object)
    return _decode(frame, trajectories)


def _decode(frame: pd.DataFrame, trajectories: bool) -> pd.DataFrame:
    for name in _INTEGERS:
        frame[name] = frame[name].astype("Int64")
    for name in ("number", "seed", "attempts"):
        frame[name] = frame[name].astype("int64")
    for name in _BOOLEANS:
        frame[name] = frame[name].astype("boolean")
    for column in RESULT_NUMBERS:
        if column.name not in _INTEGERS + _BOOLEANS:
            frame[column.name] = frame[column.name].astype("float64")
    for name, stored in _JSON.items():
        frame[name] = [json.loads(text or "{}") for text in frame.pop(stored)]
    texts = frame.pop("trajectory_json") if trajectories else [None] * len(frame)
    frame["trajectory"] = [json.loads(text or "[]") for text in texts]
    params = pd.DataFrame([json.loads(text) for text in frame.pop("hyperparameters_json")], index=frame.index)
    return frame.join(params.add_prefix("param.")) if len(params.columns) else frame
