"""The metric of a table of trials, for display. Imports neither numpy nor pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcu.score import Score, score_of
from mcu.terms import Metric

if TYPE_CHECKING:
    import pandas as pd


def metric_of(table: pd.DataFrame) -> str:
    """The metric of these trials; ``accuracy`` if not stated."""
    found: list[object] = list(table["metric"].dropna().unique()) if "metric" in table else []
    return str(found[0]) if len(found) else str(Metric.ACCURACY)


def score_in(table: pd.DataFrame) -> Score:
    """Title, unit and direction of these trials' scores; ``score`` if a table mixes metrics."""
    if "metric" in table and table["metric"].dropna().nunique() > 1:
        return Score("score")
    return score_of(metric_of(table))


def lowest_score(table: pd.DataFrame) -> float:
    """What a budget without a model counts in a hypervolume: 0, or the lowest if the scale has no lower end."""
    found = table.loc[table["feasible"], "accuracy"].dropna()
    return 0.0 if score_in(table).bounded or not len(found) else float(found.min())


def metric_title(table: pd.DataFrame) -> str:
    """Title for labels: ``accuracy``, ``macro-F1``, ...; says so if lower is better."""
    return score_in(table).axis


def metric_label(table: pd.DataFrame) -> str:
    """``metric_title`` for the axis of a small figure: on two lines if lower is better."""
    return metric_title(table).replace(" (", "\n(")
