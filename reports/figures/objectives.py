"""All objectives in one figure, and the effect of hyperparameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mcu.budget import RESOURCES, amount
from mcu.score import Score
from reports.figures.scales import log_ticks, score_ticks
from reports.figures.style import SOFT, Look, legend_below, new_figure, rasterise
from reports.fronts import Floats, nondominated
from reports.metric import metric_label, metric_title, score_in
from reports.trials import RESOURCE_TITLES

MOST_SLICES = 6  # hyperparameters drawn


def objectives_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure | None:
    """Parallel coordinates of accuracy, flash, SRAM and MACs; up is better on every axis, sizes on log scales.

    Every feasible model is a line in its method's colour, opaque if it is non-dominated in all four.
    """
    trials = table[table["feasible"] & (table[list(RESOURCES)] > 0).all(axis=1)]
    if len(trials) < 2:
        return None
    points = trials[["accuracy", *RESOURCES]].to_numpy(dtype=float)
    strong = nondominated(points, maximise=[True, False, False, False])
    low, high = _limits(points, score_in(table))
    scaled = _scaled(points, low, high)
    figure = new_figure(width, 3.4)
    axes = figure.add_subplot()
    for emphasis in (False, True):
        for name in look.order:
            rows = scaled[((trials["method"] == name) & (strong == emphasis)).to_numpy()]
            lines = [list(enumerate(row)) for row in rows]
            alpha, line = (0.9, 1.3) if emphasis else (0.12, 0.7)
            axes.add_collection(LineCollection(lines, colors=look.colour(name), alpha=alpha, linewidths=line,
                                               rasterized=rasterise(len(trials) * 4)))  # fmt: skip
    for at in range(4):
        _upright(axes, at, low[at], high[at], score_in(table))
    axes.set_xlim(-0.15, 3.35)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(range(4), [f"int8 test {metric_title(table)}", *(RESOURCE_TITLES[name] for name in RESOURCES)])
    axes.tick_params(length=0, pad=6)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    shown = [name for name in look.order if (trials["method"] == name).any()]
    legend_below(figure, [Line2D([], [], color=look.colour(name)) for name in shown], shown)
    return figure


def _limits(points: Floats, score: Score) -> tuple[Floats, Floats]:
    low, high = points.min(axis=0), points.max(axis=0)
    high[0] = max(high[0], low[0] + (0.01 if score.percent else 1e-6 * abs(low[0]) or 1e-9))
    high[1:] = np.maximum(high[1:], low[1:] * 1.1)
    return low, high


def _scaled(points: Floats, low: Floats, high: Floats) -> Floats:
    scaled = np.empty_like(points)
    scaled[:, 0] = (points[:, 0] - low[0]) / (high[0] - low[0])
    scaled[:, 1:] = 1 - np.log(points[:, 1:] / low[1:]) / np.log(high[1:] / low[1:])
    return scaled


def _upright(axes: Axes, at: int, low: float, high: float, score: Score) -> None:
    """One vertical axis with its ticks; sizes grow downwards."""
    axes.axvline(at, color=SOFT, linewidth=0.9, zorder=3)
    if at == 0:
        ticks = [float(tick) for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
        labels = score_ticks(score).format_ticks(ticks)
        places = [((tick - low) / (high - low), label) for tick, label in zip(ticks, labels, strict=True)]
    else:
        name = RESOURCES[at - 1]
        ticks = log_ticks(low, high, name, most=7)
        places = [(1 - np.log(tick / low) / np.log(high / low), amount(name, tick)) for tick in ticks]
    for place, label in places:
        axes.plot([at, at + 0.03], [place, place], color=SOFT, linewidth=0.9, zorder=3)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.75}
        axes.text(at + 0.05, place, label, va="center", fontsize="x-small", zorder=4, bbox=box)


def slices_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure | None:
    """Validation accuracy over each numeric hyperparameter, with the median of each eighth of the trials."""
    trials = table[table["val_accuracy"].notna()]
    names = [name for name in table.columns if name.startswith("param.") and _varies(trials[name])][:MOST_SLICES]
    if not names or len(trials) < 8:
        return None
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(width, 0.4 + 2.3 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        _slice(axes, trials, name, look)
    _score_limits(panels[0][0], trials["val_accuracy"].to_numpy(dtype=float), score_in(table))
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    for line in panels:
        line[0].set_ylabel(f"validation {metric_label(table)}")
    panels[0][0].yaxis.set_major_formatter(score_ticks(score_in(table)))
    shown = [name for name in look.order if (trials["method"] == name).any()]
    handles = [Line2D([], [], linestyle="", marker="o", markersize=4, color=look.colour(name)) for name in shown]
    legend_below(figure, handles, shown)
    return figure


def _numbers(values: pd.Series) -> Floats:
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)


def _varies(values: pd.Series) -> bool:
    numbers = _numbers(values)
    return len(np.unique(numbers[np.isfinite(numbers)])) >= 2


def _short(value: float) -> str:
    """Three digits: sampled values have many, and neighbours must not run into each other."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:g}"


def _slice(axes: Axes, trials: pd.DataFrame, name: str, look: Look) -> None:
    x, y = _numbers(trials[name]), trials["val_accuracy"].to_numpy(dtype=float)
    known = np.isfinite(x)
    choices = np.unique(x[known])
    if len(choices) < 8:
        axes.set_xticks(range(len(choices)), [_short(choice) for choice in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
        x = np.searchsorted(choices, x) + (np.arange(len(x)) % 7 - 3) * 0.05
    elif choices[0] > 0 and choices[-1] / choices[0] > 30:
        axes.set_xscale("log")
        ticks = log_ticks(choices[0], choices[-1], "macs", most=5)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    for method in look.order:
        mine = known & (trials["method"] == method).to_numpy()
        axes.scatter(x[mine], y[mine], s=8, alpha=0.45, linewidths=0, color=look.colour(method),
                     rasterized=rasterise(len(trials)))  # fmt: skip
    if len(choices) >= 8:
        parts = np.array_split(np.argsort(x[known], kind="stable"), 8)
        centres = [np.median(x[known][part]) for part in parts]
        axes.plot(centres, [np.median(y[known][part]) for part in parts], color=SOFT, linewidth=1.4)
    axes.set_xlabel(name.removeprefix("param."))


def _score_limits(axes: Axes, y: Floats, score: Score) -> None:
    """Limits of a score's axis that show all but the worst."""
    low, high = float(np.quantile(y, 0.03)), float(y.max())
    room = 0.01 if score.percent else 0.05 * (high - low) or 1e-6 * abs(high) or 1e-9
    axes.set_ylim(
        max(0.0 if score.bounded else -np.inf, low - room), min(1.0 if score.percent else np.inf, high + room)
    )
