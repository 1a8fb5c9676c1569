"""Result of each method for each (task, budget, seed): the sample for comparisons."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mcu.budget import RESOURCES
from mcu.terms import TrialState
from reports.lineage import charged
from reports.trials import bounded, budgets, methods

KEYS = ["task", "budget", "method", "seed"]
DENSE = [f"dense_{name}" for name in RESOURCES]


def seed_scores(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per task, budget, method and seed that finished, in this order, budgets from the smallest.

    Of the trials of a method there (its tuning), the feasible one with the highest validation accuracy is chosen; its
    test accuracy is the score. Without a feasible one ``accuracy`` is NaN: a miss. Crashed trials are ignored, as they
    say nothing about the method.

    Args:
        tables: a tidy table of trials per task.

    Returns:
        The columns of ``KEYS``, ``accuracy``, ``val_accuracy``, the three resources, those of the dense network
        (``DENSE``), ``trials`` and ``duration_s`` of all trials together.
    """
    parts = [_of_task(task, table) for task, table in tables.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=KEYS)


def joined(scores: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Scores, completed with those of ``others`` for (task, method) pairs they lack, in the order of ``others``."""
    own = set(zip(scores["task"], scores["method"], strict=True))
    missing = [pair not in own for pair in zip(others["task"], others["method"], strict=True)]
    together = pd.concat([scores, others[missing]], ignore_index=True)
    cells = [tuple(row) for row in pd.concat([others, scores])[KEYS[:-1]].to_numpy()]
    order = {cell: at for at, cell in enumerate(dict.fromkeys(cells))}
    places = [(order[task, budget, method], seed) for task, budget, method, seed in together[KEYS].to_numpy()]
    return together.loc[sorted(together.index, key=places.__getitem__)].reset_index(drop=True)


def _of_task(task: str, table: pd.DataFrame) -> pd.DataFrame:
    judged = table[table["finished"] & (table["state"] != TrialState.FAILED)]
    judged = judged.assign(duration_s=judged["duration_s"].where(~_reused(judged), 0.0))
    judged = bounded(judged.assign(duration_s=_charged(judged)))
    spent = judged.groupby(KEYS[1:], as_index=False).agg(trials=("number", "size"), duration_s=("duration_s", "sum"))
    good = judged[judged["feasible"] & judged["val_accuracy"].notna()]
    ordered = good.sort_values(["val_accuracy", "flash"], ascending=[False, True], kind="stable")
    best = ordered.drop_duplicates(KEYS[1:])[[*KEYS[1:], "accuracy", "val_accuracy", *RESOURCES, *DENSE]]
    scores = spent.merge(best, on=KEYS[1:], how="left")
    scores.insert(0, "task", task)
    order = {label: at for at, label in enumerate(budgets(table)["budget"])}
    names = {name: at for at, name in enumerate(methods(table))}
    places = pd.DataFrame({"a": scores["budget"].map(order), "b": scores["method"].map(names), "c": scores["seed"]})
    return scores.loc[places.sort_values(["a", "b", "c"]).index].reset_index(drop=True)


def _charged(table: pd.DataFrame) -> pd.Series:
    """Seconds of each trial with its share of the dense network that its lineage began with."""
    seconds = pd.Series(0.0, index=table.index)
    for _, part in table.groupby("study", dropna=False):
        rows = part[["number", "ancestor", "val_accuracy", "duration_s"]].astype(object)
        found = charged(rows.where(rows.notna(), None).to_dict("records"))
        seconds[part.index] = part["number"].map(found)
    return seconds


def _reused(table: pd.DataFrame) -> pd.Series:
    """Trials that took over the result of an equal one and so took no time."""
    if "reused_from" not in table:
        return pd.Series(False, index=table.index)
    return table["reused_from"].notna()
