"""Comparison of two studies: sweeps, results of each method at each budget, and equal trials with different results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcu.budget import RESOURCES, Budget
from orchestrator.planning.sweep_difference import differences
from orchestrator.storage.columns import COLUMNS
from orchestrator.storage.conditions import FINISHED
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store, Study
from reports.columns import Shown, names

CELL_COLUMNS = (
    *("budget", "method", "first_trials", "second_trials", "first_feasible", "second_feasible"),
    *("first_accuracy", "second_accuracy", "difference"),
)
RESULTS = names(shown=Shown.DIFF)
_TOLERANCE = {"val_accuracy": 1e-9, "accuracy": 1e-9}


@dataclass(frozen=True)
class StudyDiff:
    """Differences of two studies.

    Attributes:
        metrics: of the accuracies of each; they have no difference if the metrics differ.
        sweep: ``key: first -> second`` for every key of the sweep that differs.
        cells: per budget and method: trials, feasible trials, and the test accuracy of the best by validation.
        shared: trials of equal specification that finished in both; ``only_first`` and ``only_second`` the rest.
        disagreeing: equal specifications with different results; not expected on one type of machine.
    """

    first: str
    second: str
    metrics: tuple[str, str]
    sweep: list[str]
    cells: list[dict[str, Any]]
    shared: int
    only_first: int
    only_second: int
    disagreeing: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return dict(vars(self))


def diff_studies(first: tuple[Store, Study], second: tuple[Store, Study]) -> StudyDiff:
    """Compare two studies, of one database or of two."""
    ours, theirs = (_finished(*side) for side in (first, second))
    hashes = [{row["spec_hash"]: row for row in rows} for rows in (ours, theirs)]
    shared = [key for key in hashes[0] if key in hashes[1]]
    return StudyDiff(
        first=first[1].name,
        second=second[1].name,
        metrics=(first[1].metric, second[1].metric),
        sweep=differences(_sweep(first[1]), _sweep(second[1])),
        cells=_cells(ours, theirs, alike=first[1].metric == second[1].metric),
        shared=len(shared),
        only_first=len(hashes[0]) - len(shared),
        only_second=len(hashes[1]) - len(shared),
        disagreeing=[row for key in shared if (row := _disagreement(hashes[0][key], hashes[1][key]))],
    )


def _sweep(study: Study) -> dict[str, Any]:
    return {**study.sweep, "workers": study.workers}


def _finished(store: Store, study: Study) -> list[dict[str, Any]]:
    with trial_search(store, FINISHED, [study.id], parameters=False) as search:
        return search.rows(COLUMNS)


def _budget(row: Mapping[Any, Any]) -> str:
    budget = Budget(*(row[f"budget_{name}"] for name in RESOURCES))
    return f"{row['device']} ({budget})" if row["device"] else str(budget)


def _cells(
    ours: Sequence[Mapping[Any, Any]], theirs: Sequence[Mapping[Any, Any]], *, alike: bool
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {}
    for side, rows in enumerate((ours, theirs)):
        for row in rows:
            groups.setdefault((_budget(row), row["method"]), ([], []))[side].append(row)
    cells = []
    for (budget, method), sides in groups.items():
        fit = [[row for row in side if row["feasible"] and row["accuracy"] is not None] for side in sides]
        best = [max(side, key=_validated)["accuracy"] if side else None for side in fit]
        change = best[1] - best[0] if alike and best[0] is not None and best[1] is not None else None
        values = (budget, method, *map(len, sides), *map(len, fit), *best, change)
        cells.append(dict(zip(CELL_COLUMNS, values, strict=True)))
    return cells


def _validated(row: Mapping[Any, Any]) -> float:
    return -math.inf if row["val_accuracy"] is None else float(row["val_accuracy"])


def _disagreement(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[str, Any] | None:
    changed = {name: [one[name], other[name]] for name in RESULTS if _differ(name, one[name], other[name])}
    return {"first": one["number"], "second": other["number"], **changed} if changed else None


def _differ(name: str, one: Any, other: Any) -> bool:
    if name in _TOLERANCE and one is not None and other is not None:
        return bool(abs(one - other) > _TOLERANCE[name])
    return bool(one != other)
