"""Accuracy against a resource: every measured trial, the fronts, and where devices end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcu.terms import RuntimeName
from reports.figures.scales import accuracy_axis, device_lines, resource_axis
from reports.figures.style import INK, SOFT, Look, legend_below, new_figure, plain_note, rasterise
from reports.metric import metric_label, score_in
from reports.trials import RESOURCE_TITLES, methods, runtime_in
from reports.winners import accuracy_front

UNITS = {
    RuntimeName.TFLM: {"flash": "bytes of the .tflite file", "sram": "bytes of the arena"},
    RuntimeName.FIRMWARE: {"flash": "bytes of the C program", "sram": "bytes of its RAM"},
}


def accuracy_figure(
    table: pd.DataFrame, resource: str, limits: Mapping[str, float], look: Look, width: float = 7.2
) -> Figure:
    """Test accuracy over one resource on a log axis.

    Filled markers: within their budget; hollow: not. Step lines join the models chosen by validation accuracy as the
    limit grows, per method (colour) and over all methods (black).
    """
    figure = new_figure(width, width * 0.62)
    axes = figure.add_subplot()
    known = table[table["known"]]
    _, high = resource_axis(axes, known[resource].tolist(), resource)
    fronts = {name: accuracy_front(table, resource, name) for name in methods(table)}
    for name in reversed(look.order):
        _points(axes, known[known["method"] == name], resource, name, look, len(known))
        _step(axes, table, fronts.get(name, []), resource, high, look.colour(name), 1.3, 0.9)
    overall = accuracy_front(table, resource)
    _step(axes, table, overall, resource, high, INK, 2.4, 0.22)
    on_fronts = [table["accuracy"].iloc[row] for rows in [*fronts.values(), overall] for row in rows]
    below = accuracy_axis(axes, known["accuracy"].tolist(), on_fronts, score_in(table))
    device_lines(axes, limits)
    axes.set_xlabel(f"{RESOURCE_TITLES[resource]} ({UNITS[runtime_in(table)].get(resource, 'multiply-accumulates')})")
    axes.set_ylabel(f"int8 test {metric_label(table)}")
    axes.grid(axis="x", visible=False)
    if below:
        plain_note(axes, f"{below} trials lie below the axis")
    _legend(figure, known, look)
    return figure


def _points(axes: Axes, trials: pd.DataFrame, resource: str, method: str, look: Look, total: int) -> None:
    colour, size = look.colour(method), 26 if total < 400 else 12
    for feasible in (False, True):
        part = trials[trials["feasible"] == feasible]
        axes.scatter(
            part[resource],
            part["accuracy"],
            s=size,
            marker=look.marker(method),
            facecolors=colour if feasible else "none",
            edgecolors="white" if feasible else colour,
            linewidths=0.5 if feasible else 0.9,
            alpha=0.85 if feasible else 0.6,
            zorder=3,
            rasterized=rasterise(total),
        )


def _step(
    axes: Axes, table: pd.DataFrame, rows: list[int], resource: str, end: float, colour: str, line: float, alpha: float
) -> None:
    if not rows:
        return
    x = np.append(table[resource].iloc[rows].to_numpy(), end)
    y = table["accuracy"].iloc[rows].to_numpy()
    axes.step(x, np.append(y, y[-1]), where="post", color=colour, linewidth=line, alpha=alpha, zorder=2)


def _legend(figure: Figure, known: pd.DataFrame, look: Look) -> None:
    shown = [name for name in look.order if (known["method"] == name).any()]
    handles = [
        Line2D([], [], color=look.colour(name), marker=look.marker(name), markersize=5, markeredgecolor="white")
        for name in shown
    ]
    labels = list(shown)
    handles.append(Line2D([], [], color=INK, alpha=0.22, linewidth=2.4))
    labels.append("best of all")
    if (~known["feasible"]).any():
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, markerfacecolor="none", color=SOFT))
        labels.append("over its budget")
    legend_below(figure, handles, labels)
