"""Training of the winners: utilisation of the bounds and accuracy over epochs, and the final widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mcu.score import Score
from reports.figures.scales import score_ticks
from reports.figures.style import BAD, INK, SOFT, legend_below, new_figure
from reports.metric import metric_label, score_in
from reports.trials import RESOURCE_TITLES
from reports.winners import Winner

LINES = {"flash": "#0072b2", "sram": "#d55e00", "macs": "#009e73"}
MOST = 6  # winners drawn side by side

EpochReports = Mapping[int, Sequence[tuple[int, float | None, float | None]]]


def trajectory_figure(
    table: pd.DataFrame, winners: Sequence[Winner], reports: EpochReports, width: float = 7.2
) -> Figure | None:
    """Per winner: above, each resource as a multiple of its bound over the training (log scale); below, accuracy.

    Args:
        reports: (step, epochs done, validation accuracy) by trial number; without them the x axis counts steps, and
            accuracies come from the trajectories.
    """
    pairs = [(winner, winner.row) for winner in winners if winner.row is not None]
    drawn = [(winner, table.iloc[row]) for winner, row in pairs if _has_steps(table, row)][:MOST]
    if not drawn:
        return None
    courses = [course_of(trial, reports) for _, trial in drawn]
    judged = any(course.accuracy for course in courses)
    figure = new_figure(width, 3.7 if judged else 2.5)
    panels = figure.subplots(2 if judged else 1, len(drawn), sharex="col", sharey="row", squeeze=False)
    for column, ((winner, trial), course) in enumerate(zip(drawn, courses, strict=True)):
        draw_use(panels[0][column], course, winner.bounds)
        title = f"{winner.budget.replace(', ', chr(10))}\n{trial['method']}"
        panels[0][column].set_title(title, fontsize="small", fontweight="normal")
        if judged:
            draw_accuracy(panels[1][column], course, score_in(table))
        panels[-1][column].set_xlabel(course.unit)
        panels[-1][column].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panels[0][0].set_ylabel("used / bound")
    if judged:
        panels[1][0].set_ylabel(f"validation\n{metric_label(table)}")
    handles = [Line2D([], [], color=colour) for colour in LINES.values()]
    legend_below(figure, [*handles, Line2D([], [], color=BAD)], [*RESOURCE_TITLES.values(), "bound"])
    return figure


@dataclass(frozen=True)
class Course:
    """One training run over time: x in ``unit``, resources and phases by step, accuracy where it was measured."""

    unit: str
    x: list[float]
    used: Mapping[str, list[float]]
    dense: Mapping[str, float]
    phases: list[str]
    accuracy: list[tuple[float, float]]


def course_of(trial: Mapping[str, Any] | pd.Series, reports: EpochReports) -> Course:
    """Course of a trial from its trajectory and reports; x is in epochs if the reports give their length."""
    steps = [step for step in trial["trajectory"] if isinstance(step, Mapping)]
    mine = reports.get(int(trial["number"]), ())
    a_step = next((epochs / step for step, epochs, _ in reversed(mine) if step and epochs), None)
    own = all(step.get("epochs_done") is not None for step in steps)

    def place(step: Mapping[str, Any], at: int) -> float:
        return float(step["epochs_done"]) if own else float(step.get("step", at)) * (a_step or 1.0)

    x = [place(step, at) for at, step in enumerate(steps)]
    used = {name: [_number(step.get(name)) for step in steps] for name in LINES}
    judged = [(step * (a_step or 1.0), value) for step, _, value in mine if value is not None]
    if not judged:
        judged = [
            (x[at], float(step["val_accuracy"]))
            for at, step in enumerate(steps)
            if step.get("val_accuracy") is not None
        ]
    dense = {name: float(trial[f"dense_{name}"]) for name in LINES if _number(trial[f"dense_{name}"]) > 0}
    phases = [str(step.get("phase") or "") for step in steps]
    return Course("epochs" if own or a_step else "steps", x, used, dense, phases, judged)


def _number(value: Any) -> float:
    return float("nan") if value is None or value is pd.NA else float(value)


def _has_steps(table: pd.DataFrame, row: int) -> bool:
    steps = table["trajectory"].iloc[row]
    return isinstance(steps, list | tuple) and any(isinstance(step, Mapping) for step in steps)


def draw_use(axes: Axes, course: Course, bounds: Mapping[str, float]) -> None:
    """Resources as multiples of their bounds (dotted: of the dense network, if there is no bound)."""
    for name, colour in LINES.items():
        values, whole = np.asarray(course.used[name]), bounds.get(name) or course.dense.get(name)
        if whole and np.isfinite(values).any():
            line, dash = (1.5, "-") if bounds.get(name) else (1.0, ":")
            axes.step(course.x, values / whole, where="post", color=colour, linewidth=line, linestyle=dash)
    axes.axhline(1.0, color=BAD, linewidth=1)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×" if value >= 1 else f"1/{1 / value:g}×")
    axes.minorticks_off()


def draw_accuracy(axes: Axes, course: Course, score: Score) -> None:
    """Validation accuracy where measured."""
    dots = 3 if len(course.accuracy) <= 30 else 0
    x, y = [place for place, _ in course.accuracy], [value for _, value in course.accuracy]
    axes.plot(x, y, color=INK, linewidth=1.3, marker="o", markersize=dots)
    axes.yaxis.set_major_formatter(score_ticks(score))


def widths_figure(table: pd.DataFrame, winners: Sequence[Winner], width: float = 7.2) -> Figure | None:
    """Channels the winners kept, layer by layer: the number, shaded by its fraction of the dense network's."""
    drawn = [winner for winner in winners if winner.row is not None and _widths(table, winner.row, "widths")]
    if not drawn:
        return None
    rows = [winner.row for winner in drawn if winner.row is not None]
    layers = list(dict.fromkeys(name for row in rows for name in _widths(table, row, "widths")))[:40]
    kept = np.array([[_widths(table, row, "widths").get(layer, np.nan) for layer in layers] for row in rows], float)
    dense = np.array(
        [[_widths(table, row, "dense_widths").get(layer, np.nan) for layer in layers] for row in rows], float
    )
    share = np.where(dense > 0, kept / np.where(dense > 0, dense, 1), np.nan)
    figure = new_figure(width, 1.3 + 0.36 * len(drawn))
    axes = figure.add_subplot()
    axes.imshow(np.clip(np.nan_to_num(share, nan=0.0), 0, 1), cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for at, line in enumerate(kept):
        for layer, value in enumerate(line):
            if np.isfinite(value) and len(layers) <= 24:
                dark = share[at, layer] > 0.7
                colour = "white" if dark else INK
                axes.text(layer, at, f"{value:.0f}", ha="center", va="center", color=colour, fontsize="small")
    axes.set_yticks(range(len(drawn)), [winner.budget for winner in drawn])
    axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", rotation_mode="anchor", fontsize="small")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(SOFT)
    return figure


def _widths(table: pd.DataFrame, row: int, column: str) -> Mapping[str, int]:
    widths = table[column].iloc[row]
    return widths if isinstance(widths, Mapping) else {}
