"""Evaluation metrics: name, unit and direction of each, and the tasks it suits. Imports no numpy.

Stored scores are maximised: a score that is minimised, such as an error, is stored negated. Samplers, stop rules,
fronts and winners need not know the direction; code that displays a score uses ``Score.shown``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mcu.errors import InputError
from mcu.terms import Metric, TaskKind


@dataclass(frozen=True)
class Score:
    """An evaluation metric.

    Attributes:
        title: as shown in reports.
        percent: whether it is a fraction, shown in per cent; else it is in the unit of the targets.
        lower: whether lower is better; such a score is stored negated.
        bounded: whether it goes from 0 to 1; of another one, neither the worst value nor the scale is known beforehand.
    """

    title: str
    percent: bool = True
    lower: bool = False
    bounded: bool = True

    def shown(self, stored: float | None, digits: int = 2) -> str:
        """A stored value as text for display."""
        if stored is None or not math.isfinite(stored):
            return "–"
        if self.percent:
            return f"{100 * stored:.{digits}f} %"
        return f"{-stored if self.lower else stored:.4g}"

    def change(self, stored: float | None) -> str:
        """A difference of two stored values with its sign, as that of the values as they are shown; see ``points``."""
        if stored is None or not math.isfinite(stored):
            return "–"
        return f"{100 * stored:+.2f}" if self.percent else f"{0.0 - stored if self.lower else stored:+.4g}"

    def apart(self, stored: float) -> str:
        """How far two stored values are apart, with its unit."""
        return f"{100 * abs(stored):.2f}{self.points}" if self.percent else f"{abs(stored):.4g}"

    @property
    def points(self) -> str:
        """The unit behind a difference: percentage points, or none."""
        return " points" if self.percent else ""

    @property
    def axis(self) -> str:
        """Title for the axis of a figure; says so where lower is better."""
        return f"{self.title} (lower is better)" if self.lower else self.title


SCORES: Mapping[str, Score] = {
    Metric.ACCURACY: Score("accuracy"),
    Metric.MACRO_F1: Score("macro-F1"),
    Metric.MEAN_AVERAGE_PRECISION: Score("mean average precision"),
    Metric.R2: Score("R²", bounded=False),
    Metric.MAE: Score("mean absolute error", percent=False, lower=True, bounded=False),
    Metric.AUC: Score("AUC"),
    Metric.CELL_F1: Score("F1 of cells"),
}

SUITS: Mapping[TaskKind, tuple[Metric, ...]] = {
    TaskKind.CLASSIFICATION: (Metric.ACCURACY, Metric.MACRO_F1),
    TaskKind.MULTI_LABEL: (Metric.MEAN_AVERAGE_PRECISION,),
    TaskKind.REGRESSION: (Metric.R2, Metric.MAE),
    TaskKind.RECONSTRUCTION: (Metric.AUC,),
    TaskKind.GRID: (Metric.CELL_F1,),
}
"""The scores of each kind of task."""


def score_of(metric: str | None) -> Score:
    """The score of this name; for a user's ``module:function`` higher is better and the unit is unknown."""
    name = metric or Metric.ACCURACY
    return SCORES[name] if name in SCORES else Score(name.rpartition(":")[2], percent=False, bounded=False)


def check_metric(kind: TaskKind, metric: str, task: str) -> None:
    """Refuse a metric that does not suit a task.

    Raises:
        InputError: naming those that do.
    """
    if metric in SCORES and metric not in SUITS[kind]:
        allowed = ", ".join(repr(str(name)) for name in SUITS[kind])
        raise InputError(
            f"training.metric = {str(metric)!r}: does not suit the task {task!r}, which is of the kind {str(kind)!r}; "
            f"allowed are {allowed} or your own 'module:function'"
        )
