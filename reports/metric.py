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


def metric_title(table: pd.DataFrame) -> str:
    """Title for labels: ``accuracy``, ``macro-F1``, ...; says so if lower is better."""
    return score_in(table).axis
