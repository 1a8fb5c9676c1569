"""Methods across tasks and budgets: a panel per cell, fronts with intervals, attainment surfaces, average ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.comparison.ranking import Ranking
from reports.comparison.standings import Place, Standing
from reports.figures.scales import PercentTicks, accuracy_axis, resource_axis
from reports.figures.style import BAD, GRID, PALETTE, SOFT, legend_below, new_figure
from reports.fronts import attained, attainment_surface
from reports.trials import RESOURCE_TITLES

FILLS = {Place.FIRST: PALETTE[0], Place.TIED: PALETTE[5], Place.BEHIND: "#b5bcc5"}
NAMED = 6  # methods with a colour of their own among the fronts of a task
MARKERS = ("o", "s", "D", "^", "v", "P")
OTHER = "#c3c9d0"


def cells_figure(found: Sequence[Standing], order: Sequence[str], reference: str) -> Figure:
    """A panel per task and budget: mean test accuracy over seeds with its interval, a row per method.

    Dark: first; light blue: tied with the first; grey: behind; a red cross: missed the budget; a triangle: below the
    axis. ``order`` is from the top. Intervals are bootstraps over seeds; a dot without one means fewer than three
    seeds.
    """
    tasks = list(dict.fromkeys(s.task for s in found))
    by_task = {task: list(dict.fromkeys(s.budget for s in found if s.task == task)) for task in tasks}
    columns = max(len(labels) for labels in by_task.values())
    figure = new_figure(2.0 + 2.3 * columns, (0.6 + 0.19 * len(order)) * len(tasks) + 0.5)
    panels = figure.subplots(len(tasks), columns, squeeze=False)
    for line, task in zip(panels, tasks, strict=True):
        for at, axes in enumerate(line):
            if at >= len(by_task[task]):
                axes.set_visible(False)
                continue
            budget = by_task[task][at]
            mine = {s.method: s for s in found if (s.task, s.budget) == (task, budget)}
            _cell(axes, mine, order, reference)
            label = budget.replace(", ", "\n", 1) if len(budget) > 26 else budget
            axes.set_title(f"{task}\n{label}" if at == 0 else f"\n{label}", fontsize="small")
            if at:
                axes.set_yticklabels([])
    handles = [Line2D([], [], linestyle="", marker="o", color=colour) for colour in FILLS.values()]
    handles.append(Line2D([], [], linestyle="", marker="x", color=BAD))
    legend_below(figure, handles, ["first", "tied with the first", "behind", "missed the budget"])
    return figure


def _cell(axes: Axes, mine: dict[str, Standing], order: Sequence[str], reference: str) -> None:
    left, right = _cell_limits(list(mine.values()))
    for at, name in enumerate(order):
        standing = mine.get(name)
        if standing is None:
            continue
        if standing.mean is None:
            axes.plot([left], [at], marker="x", color=BAD, markersize=4, clip_on=False)
            continue
        colour = FILLS[standing.place]
        if standing.interval is not None:
            low, high = standing.interval
            axes.hlines(at, max(low, left), min(high, right), color=colour, linewidth=2.2)
        below = standing.mean < left
        axes.plot([max(standing.mean, left)], [at], marker="<" if below else "o", color=colour, markersize=5,
                  markeredgecolor="white", markeredgewidth=0.6, clip_on=False)  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_yticks(range(len(order)), list(order), fontsize="x-small")
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == reference else "normal")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(PercentTicks())
    axes.tick_params(axis="x", labelsize="x-small")
    axes.grid(axis="y", visible=True, linewidth=0.3)


def _cell_limits(mine: Sequence[Standing]) -> tuple[float, float]:
    """Room for all means but the lowest, and for their intervals unless those are far wider than the means' spread."""
    means = sorted(s.mean for s in mine if s.mean is not None)
    low, high = (means[max(0, len(means) // 10)], means[-1]) if means else (0.0, 1.0)
    span = max(high - low, 0.02)
    ends = [end for s in mine if s.interval and s.mean is not None and s.mean >= low for end in s.interval]
    left = min([low - 0.35 * span, *(end - 0.05 * span for end in ends)])
    right = max([high + 0.2 * span, *(end + 0.05 * span for end in ends)])
    return max(0.0, low - 3 * span, left), min(1.0, high + 3 * span, right)


def fronts_figure(scores: pd.DataFrame, task: str, ranks: Ranking) -> Figure | None:
    """Mean accuracy at each budget over the mean flash and SRAM used, with intervals over seeds, a line per method.

    The methods of the best average ranks have colours, all others are grey.
    """
    mine = scores[(scores["task"] == task) & scores["accuracy"].notna()]
    if mine.empty:
        return None
    named = [name for name in ranks.ranks if (mine["method"] == name).any()][:NAMED]
    figure = new_figure(7.2, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    points = mine.groupby(["method", "budget"], sort=False).agg(
        flash=("flash", "mean"), sram=("sram", "mean"), mean=("accuracy", "mean"),
        low=("accuracy", "min"), high=("accuracy", "max"),
    ).reset_index()  # fmt: skip
    for axes, resource in zip(panels, ("flash", "sram"), strict=True):
        resource_axis(axes, points[resource].tolist(), resource, 6)
        for name, line in points.sort_values(resource).groupby("method"):
            at = named.index(str(name)) if name in named else None
            errors = [line["mean"] - line["low"], line["high"] - line["mean"]]
            if at is None:
                axes.errorbar(line[resource], line["mean"], errors, color=OTHER, marker=".", markersize=3,
                              linewidth=0.7, elinewidth=0.6, zorder=2)  # fmt: skip
            else:
                axes.errorbar(line[resource], line["mean"], errors, color=PALETTE[at], marker=MARKERS[at],
                              markersize=4, linewidth=1.3, elinewidth=0.9, capsize=1.5, zorder=9 - at)  # fmt: skip
        axes.set_xlabel(f"{RESOURCE_TITLES[resource]} used")
        axes.grid(axis="x", visible=False)
    ends = points.loc[points["method"].isin(named), ["low", "high"]].to_numpy().ravel()
    accuracy_axis(panels[0], points["mean"].tolist(), ends.tolist())
    panels[0].set_ylabel("int8 test accuracy")
    handles = [Line2D([], [], color=PALETTE[at], marker=MARKERS[at], markersize=4) for at in range(len(named))]
    labels = list(named)
    if set(points["method"]) - set(named):
        handles.append(Line2D([], [], color=OTHER))
        labels.append("the others")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def surfaces_figure(
    scores: pd.DataFrame, task: str, reference: str, order: Sequence[str], resource: str
) -> Figure | None:
    """Empirical attainment surfaces over one resource: the reference (blue) and each other method, a panel each.

    Test accuracy of the models chosen by validation, one per seed and budget. Line: accuracy attained with half
    of the seeds; shade: from what all seeds attain to what one of them does.
    """
    mine = scores[(scores["task"] == task) & scores["accuracy"].notna()]
    names = [name for name in order if name != reference and (mine["method"] == name).any()]
    if not names or not (mine["method"] == reference).any():
        return None
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(7.2, 0.3 + 1.6 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        limits = resource_axis(axes, mine[resource].tolist(), resource, 4)
        grid = np.geomspace(*limits, 160)
        for method, colour in ((reference, PALETTE[0]), (name, PALETTE[1])):
            _surface(axes, mine[mine["method"] == method], resource, grid, colour)
        axes.set_title(name, fontsize="small")
        axes.tick_params(labelsize="x-small")
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    accuracy_axis(panels[0][0], mine["accuracy"].tolist(), [])
    figure.supxlabel(f"{RESOURCE_TITLES[resource]} at most", fontsize="small")
    figure.supylabel("int8 test accuracy", fontsize="small")
    return figure


def _surface(axes: Axes, rows: pd.DataFrame, resource: str, grid: np.ndarray, colour: str) -> None:
    curves = [attained(part[resource], part["accuracy"], part["accuracy"], grid) for _, part in rows.groupby("seed")]
    worst, median, best = attainment_surface(curves)
    there = median > 0
    axes.fill_between(grid, worst, best, where=there & (worst > 0), color=colour, alpha=0.18, linewidth=0, step="post")
    axes.step(grid[there], median[there], where="post", color=colour, linewidth=1.4)


def ranks_figure(found: Ranking, reference: str) -> Figure | None:
    """Average rank of each method over all cells, best on top; shaded: no significant difference to the reference."""
    if len(found.ranks) < 2:
        return None
    names = list(found.ranks)
    figure = new_figure(6.0, 0.9 + 0.24 * len(names))
    axes = figure.add_subplot()
    for at, name in enumerate(names):
        axes.hlines(at, 1, found.ranks[name], color=GRID, linewidth=1)
        axes.plot([found.ranks[name]], [at], marker="o", color=PALETTE[0] if name == reference else SOFT)
    if reference in found.ranks and found.critical_difference is not None:
        own = found.ranks[reference]
        axes.axvspan(max(1.0, own - found.critical_difference), own + found.critical_difference, color=PALETTE[0],
                     alpha=0.1, linewidth=0)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0.8, len(names) + 0.2)
    axes.set_xlabel(f"average rank over {found.cells} (task, budget) cells; 1 is best")
    axes.grid(axis="y", visible=False)
    return figure
