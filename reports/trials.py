"""The tidy table of trials for all reports: complete columns, types, one label per budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES, Budget
from mcu.terms import FINAL_STATES, RuntimeName, TrialState
from reports.columns import ColumnKind, names, used_columns

_DEFAULTS = {"seed": 0, "attempts": 1}
_OWN = ("number", *_DEFAULTS)
NUMBERS = tuple(name for name in names(kinds=(ColumnKind.INTEGER, ColumnKind.NUMBER)) if name not in _OWN)
TEXTS = names(kinds=(ColumnKind.TEXT,))
TIMES = names(kinds=(ColumnKind.TIME,))
NESTED = names(kinds=(ColumnKind.OBJECT, ColumnKind.LIST))
_BOUNDS = [f"budget_{name}" for name in RESOURCES]
RESOURCE_TITLES = {"flash": "Flash", "sram": "SRAM", "macs": "MACs"}


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of the trials with every expected column, plain types and the column ``budget``.

    Numbers become floats with NaN for missing, texts become ``str`` or None, times UTC timestamps, ``feasible``
    ``known`` and ``finished`` booleans. A ``known`` trial has an accuracy and all three resources, feasible or not.
    ``flash`` and ``sram`` are those of the trial's runtime. Nothing is dropped.
    """
    table = frame.reset_index(drop=True).copy()
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float) if name in table else np.nan
    for name in TEXTS:
        values = table[name] if name in table else [None] * len(table)
        table[name] = pd.Series([None if _missing(value) else str(value) for value in values], dtype=object)
    firmware = table["runtime"] == RuntimeName.FIRMWARE
    for name, column in used_columns(RuntimeName.FIRMWARE).items():
        table.loc[firmware, name] = table.loc[firmware, column]
    for name in TIMES:
        moments = table[name] if name in table else pd.Series([None] * len(table), dtype=object)
        table[name] = pd.to_datetime(moments, utc=True, errors="coerce", format="mixed")
    for name in NESTED:
        if name not in table:
            table[name] = pd.Series([None] * len(table), dtype=object)
    table["number"] = table["number"].astype(int) if "number" in table else np.arange(len(table))
    for name, default in _DEFAULTS.items():
        values = table[name] if name in table else pd.Series([default] * len(table))
        table[name] = pd.to_numeric(values, errors="coerce").fillna(default).astype(int)
    known = table[["accuracy", *RESOURCES]].notna().all(axis=1)
    table["known"] = known
    feasible = table["feasible"] if "feasible" in table else table["violation"] == 0
    table["feasible"] = feasible.map(lambda value: False if _missing(value) else bool(value)).astype(bool)
    table["feasible"] &= known & (table["state"] == TrialState.COMPLETE)
    if "measured" not in table:
        table["measured"] = False
    table["finished"] = table["state"].isin(FINAL_STATES)
    table["budget"] = _budget_labels(table)
    return table


def budgets(table: pd.DataFrame) -> pd.DataFrame:
    """One row per budget of a tidy table: ``budget``, ``device`` and the three bounds, smallest first."""
    rows = bounded(table).drop_duplicates("budget")[["budget", "device", *_BOUNDS]]
    return rows.sort_values([*_BOUNDS, "budget"], na_position="last").reset_index(drop=True)


def bounded(table: pd.DataFrame) -> pd.DataFrame:
    """The trials that had a budget: all except the dense networks of a lineage."""
    return table[table[_BOUNDS].notna().any(axis=1)]


def runtime_in(table: pd.DataFrame) -> RuntimeName:
    """What the bounds of a tidy table apply to."""
    found = bounded(table)["runtime"]
    return RuntimeName.FIRMWARE if len(found) and (found == RuntimeName.FIRMWARE).all() else RuntimeName.TFLM


def several_networks(table: pd.DataFrame) -> bool:
    """Whether a trial has to say which network it is of."""
    return table["network"].nunique() > 1


def methods(table: pd.DataFrame) -> list[str]:
    """The methods of a tidy table; the pruning job first, then by name."""
    names = {name for name in table["method"] if name is not None}
    return sorted(names, key=lambda name: (name != "differentiable", name))


def _budget_labels(table: pd.DataFrame) -> pd.Series:
    """The device where it has one set of bounds; the bounds themselves otherwise."""
    bounds = zip(*(table[f"budget_{name}"] for name in RESOURCES), strict=True)
    labels = [str(Budget(*(None if _missing(bound) else int(bound) for bound in row))) for row in bounds]
    of_device: dict[str, set[str]] = {}
    for device, label in zip(table["device"], labels, strict=True):
        of_device.setdefault(device or "", set()).add(label)
    named = [
        label if device is None else device if len(of_device[device]) == 1 else f"{device} ({label})"
        for device, label in zip(table["device"], labels, strict=True)
    ]
    return pd.Series(named, index=table.index, dtype=object)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))
