"""Methods side by side: accuracy at each budget, and how much of each bound they use."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mcu.budget import RESOURCES
from mcu.terms import TrialState
from reports.comparison.comparison import Cell
from reports.figures.scales import accuracy_axis
from reports.figures.style import BAD, SOFT, Look, legend_below, new_figure, rasterise
from reports.metric import metric_label, score_in
from reports.trials import RESOURCE_TITLES


def methods_figure(table: pd.DataFrame, cells: Sequence[Cell], look: Look, width: float = 7.2) -> Figure:
    """Test accuracy at each budget: small dots are feasible trials, bars their means, large markers the winners.

    A cross on the axis is a method whose trials all missed that budget.
    """
    labels = list(dict.fromkeys(cell.budget for cell in cells))
    figure = new_figure(width, 3.6)
    axes = figure.add_subplot()
    lane = 0.8 / max(len(look.order), 1)
    feasible = table[table["feasible"]]
    means = [cell.interval[0] if cell.interval else cell.mean for cell in cells if cell.mean is not None]
    accuracy_axis(axes, feasible["accuracy"].tolist(), [value for value in means if value is not None], score_in(table))
    for cell in cells:
        x = labels.index(cell.budget) + (look.order.index(cell.method) - (len(look.order) - 1) / 2) * lane
        mine = feasible[(feasible["budget"] == cell.budget) & (feasible["method"] == cell.method)]
        _draw_cell(axes, cell, mine["accuracy"].tolist(), x, lane, look)
    for edge in range(1, len(labels)):
        axes.axvline(edge - 0.5, color=SOFT, linewidth=0.4, alpha=0.5)
    axes.set_xticks(range(len(labels)), [label.replace(", ", "\n") for label in labels])
    axes.tick_params(axis="x", length=0, pad=8, labelrotation=0 if len(labels) <= 7 else 30)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(f"int8 test {metric_label(table)}")
    handles = [
        Line2D([], [], linestyle="", color=look.colour(name), marker=look.marker(name), markersize=6)
        for name in look.order
    ]
    handles.append(Line2D([], [], linestyle="", color=BAD, marker="x", markersize=5))
    legend_below(figure, handles, [*look.order, "missed the budget"])
    return figure


def _draw_cell(axes: Axes, cell: Cell, accuracies: Sequence[float], x: float, lane: float, look: Look) -> None:
    colour = look.colour(cell.method)
    if cell.best is None:
        if cell.tried:
            floor = axes.get_ylim()[0]
            axes.plot([x], [floor], marker="x", color=BAD, markersize=5, clip_on=False, zorder=4)
        return
    axes.scatter(
        [x] * len(accuracies),
        accuracies,
        s=7,
        color=colour,
        alpha=0.35,
        linewidths=0,
        zorder=2,
        rasterized=rasterise(len(accuracies) * 30),
    )
    if cell.interval is not None:
        axes.vlines(x, *cell.interval, color=colour, linewidth=1.6, zorder=3)
    if cell.mean is not None:
        axes.hlines(cell.mean, x - lane * 0.36, x + lane * 0.36, color=colour, linewidth=1.6, zorder=3)
    axes.plot([x], [cell.best], marker=look.marker(cell.method), color=colour, markeredgecolor="white", zorder=4)


def use_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure | None:
    """How much of each bound the measured models use, a row per method; right of 100 % a budget is broken."""
    bounded = [name for name in RESOURCES if table[f"budget_{name}"].notna().any()]
    if not bounded or not table["known"].any():
        return None
    figure = new_figure(width, 0.9 + 0.42 * len(look.order))
    panels = figure.subplots(1, len(bounded), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, bounded, strict=True):
        use = table[name] / table[f"budget_{name}"]
        for at, method in enumerate(look.order):
            mine = (table["method"] == method) & table["known"] & use.notna()
            _draw_use(axes, use[mine].clip(upper=1.5).tolist(), at, look.colour(method))
        axes.axvline(1.0, color=BAD, linewidth=1)
        axes.axvspan(1.0, 1.62, color=BAD, alpha=0.06, linewidth=0)
        axes.set_xlim(0, 1.62)
        axes.set_xticks([0, 0.5, 1.0, 1.5], ["0", "50", "100", "150+"])
        axes.set_title(RESOURCE_TITLES[name])
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(look.order)), look.order)
    panels[0].set_ylim(len(look.order) - 0.5, -0.5)
    figure.supxlabel("% of the bound that is used", fontsize=rcParams["axes.labelsize"])
    return figure


def _draw_use(axes: Axes, values: Sequence[float], at: int, colour: str) -> None:
    offsets = [at + 0.26 * (((7 * index) % 11) / 5 - 1) for index in range(len(values))]
    axes.scatter(values, offsets, s=9, color=colour, alpha=0.45, linewidths=0, rasterized=rasterise(len(values) * 5))
    if values:
        middle = sorted(values)[len(values) // 2]
        axes.vlines(middle, at - 0.36, at + 0.36, color=colour, linewidth=2)


def outcomes_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure:
    """States of each method's trials as fractions of a row; includes every trial that ran."""
    parts = (
        (TrialState.COMPLETE, "complete", "#4c9a6a"),
        (TrialState.INFEASIBLE, "over its budget", "#e0a030"),
        (TrialState.STOPPED, "stopped early", "#9aa4af"),
        (TrialState.CANNOT, "network not supported by method", "#6f5f90"),
        (TrialState.FAILED, "failed", BAD),
    )
    figure = new_figure(width, 0.9 + 0.36 * len(look.order))
    axes = figure.add_subplot()
    handles, labels = [], []
    left = dict.fromkeys(look.order, 0)
    for state, label, colour in parts:
        counts = [int(((table["method"] == name) & (table["state"] == state)).sum()) for name in look.order]
        if not any(counts):
            continue
        bars = axes.barh(look.order, counts, left=[left[name] for name in look.order], color=colour, height=0.66)
        axes.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", color="white")
        left = {name: left[name] + count for name, count in zip(look.order, counts, strict=True)}
        handles.append(bars)
        labels.append(label)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("trials")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if handles:
        legend_below(figure, handles, labels)
    return figure
