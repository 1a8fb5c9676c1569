"""What the accuracies of a table of trials are measured by, as people write it. Light: no numpy, no pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mcu.terms import Metric

if TYPE_CHECKING:
    import pandas as pd

TITLES: Mapping[str, str] = {Metric.ACCURACY: "accuracy", Metric.MACRO_F1: "macro-F1"}
"""By the value of the column ``metric``."""


def metric_of(table: pd.DataFrame) -> str:
    """The metric of these trials; ``accuracy`` where they do not say."""
    found = [name for name in table["metric"].dropna().unique() if name in TITLES] if "metric" in table else []
    return str(found[0]) if found else "accuracy"


def metric_title(table: pd.DataFrame) -> str:
    """``accuracy`` or ``macro-F1``, for labels; ``score`` where a table mixes them."""
    if "metric" in table and table["metric"].dropna().nunique() > 1:
        return "score"
    return TITLES[metric_of(table)]
