"""The wide table of trials for queries and reports: one SQL statement, one pandas frame."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from sqlalchemy import select

from orchestrator.storage.columns import NESTED, SOURCE, looked_up_columns
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store, Study
from reports.columns import CATALOGUE, Column, ColumnKind, Part, names

_STORED = names(parts=set(Part) - {Part.LOOKED_UP})
_TYPES = {ColumnKind.INTEGER: "Int64", ColumnKind.NUMBER: "float64", ColumnKind.TRUTH: "boolean"}


def trials_frame(store: Store, study: Study | None = None, *, trajectories: bool = True) -> pd.DataFrame:
    """One row per trial of one study, or of all.

    Columns: ``study``, ``number``, those of the trial table, ``param.NAME`` for each hyperparameter, and the Python
    values ``widths``, ``dense_widths``, ``artifacts`` (dicts) and ``trajectory`` (a list of dicts; empty without
    ``trajectories``, which avoids reading the longest texts). Missing integers are ``<NA>``.
    """
    columns: list[Any] = [STUDIES.c.name.label("study"), *(TRIALS.c[name] for name in _STORED)]
    columns += [column.label(name) for name, column in looked_up_columns(store.engine.dialect.name).items()]
    columns += [TRIALS.c.hyperparameters_json, *(TRIALS.c[name] for name in NESTED.values())]
    source = SOURCE
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


def _dtype(column: Column) -> Any:
    return "int64" if column.required else _TYPES[column.kind]


def _decode(frame: pd.DataFrame, trajectories: bool) -> pd.DataFrame:
    for column in CATALOGUE:
        if column.kind in _TYPES:
            frame[column.name] = frame[column.name].astype(_dtype(column))
    for name, stored in NESTED.items():
        frame[name] = [json.loads(text or "{}") for text in frame.pop(stored)]
    texts = frame.pop("trajectory_json") if trajectories else [None] * len(frame)
    frame["trajectory"] = [json.loads(text or "[]") for text in texts]
    params = pd.DataFrame([json.loads(text) for text in frame.pop("hyperparameters_json")], index=frame.index)
    return frame.join(params.add_prefix("param.")) if len(params.columns) else frame
