"""Benefit of more trials: hypervolume over trials and over compute, and attainment over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mcu.budget import RESOURCES
from reports.figures.scales import PercentTicks, accuracy_axis, duration_axis, resource_axis
from reports.figures.style import INK, Look, legend_below, new_figure
from reports.fronts import Box, Floats, attained, attainment_surface, box_of, hypervolume_steps
from reports.metric import lowest_score, metric_label, score_in
from reports.trials import RESOURCE_TITLES

SEED_LIMIT = 50  # seeds drawn into one attainment surface


def finished_order(table: pd.DataFrame) -> pd.DataFrame:
    """The trials in the order in which they finished."""
    return table.sort_values(["finished_at", "number"], na_position="last", kind="stable")


def hypervolume_curve(trials: pd.DataFrame, box: Box, lowest: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Counts of finished trials, CPU seconds and the hypervolume reached after them; only feasible models add to it.

    Args:
        lowest: score of the reference point.
    """
    scaled = box.scale({name: trials[name] for name in RESOURCES}, RESOURCES)
    accuracy = trials["accuracy"].where(trials["feasible"]).to_numpy(dtype=float)
    counts, volumes = hypervolume_steps(scaled, accuracy - lowest)
    spent = trials["duration_s"].fillna(0).cumsum().to_numpy(dtype=float)
    return counts.astype(float), spent[counts - 1] if len(counts) else np.zeros(0), volumes


def hypervolume_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure | None:
    """Hypervolume over finished trials and over CPU time: a line per method, and the whole sweep in black."""
    box = box_of({name: table.loc[table["known"], name] for name in RESOURCES})
    if box is None or not table["feasible"].any():
        return None
    figure = new_figure(width, 3.0)
    panels = figure.subplots(1, 2, sharey=True)
    groups = {name: table[table["method"] == name] for name in look.order}
    panels[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    size, unit = duration_axis(panels[1], float(table["duration_s"].sum()))
    finals = []
    score, lowest = score_in(table), lowest_score(table)
    for name, trials in [*groups.items(), ("all", table)]:
        counts, spent, volumes = hypervolume_curve(finished_order(trials[trials["finished"]]), box, lowest)
        finals += [float(volumes[-1])] if len(volumes) and volumes[-1] > 0 else []
        colour, line = (INK, 2.0) if name == "all" else (look.colour(name), 1.4)
        for axes, x in zip(panels, (counts, spent / size), strict=True):
            axes.step(x, volumes, where="post", color=colour, linewidth=line)
    if finals:
        top = max(finals)
        low = min(value for value in finals if value >= 0.5 * top)  # a method that hardly fits anything lies below
        spread = max(top - low, 0.02 if score.percent else 0.02 * top)
        panels[0].set_ylim(max(0.0, low - 1.5 * spread), min(1.0 if score.bounded else np.inf, top + 0.3 * spread))
    panels[0].set_xlabel("finished trials")
    panels[1].set_xlabel(f"CPU {unit}")
    beyond = "" if score.bounded else f" {'below' if score.lower else 'above'} {score.shown(lowest)}"
    panels[0].set_ylabel(f"hypervolume{beyond}")
    if score.percent:
        panels[0].yaxis.set_major_formatter(PercentTicks())
    handles = [Line2D([], [], color=look.colour(name)) for name in look.order] + [
        Line2D([], [], color=INK, linewidth=2)
    ]
    legend_below(figure, handles, [*look.order, "whole sweep"])
    return figure


def attainment_figure(table: pd.DataFrame, look: Look, width: float = 7.2) -> Figure | None:
    """Median over seeds of the accuracy within a limit, between the worst and the best of two seeds or more.

    Uses only seeds that a method ran at all of its budgets, so that seeds do not differ in their budgets.
    """
    feasible = table[table["feasible"] & _whole_seeds(table[table["finished"]]).reindex(table.index, fill_value=False)]
    drawn = [name for name in look.order if feasible.loc[feasible["method"] == name, "seed"].nunique() >= 2]
    if not drawn:
        return None
    figure = new_figure(width, 3.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, resource in zip(panels, ("flash", "sram"), strict=True):
        limits = resource_axis(axes, feasible[resource].tolist(), resource, 6)
        grid = np.geomspace(*limits, 160)
        for name in drawn:
            mine = feasible[feasible["method"] == name]
            _surface(axes, mine, resource, grid, look.colour(name), 0.0 if score_in(table).bounded else -np.inf)
        axes.set_xlabel(RESOURCE_TITLES[resource])
        axes.tick_params(axis="x", labelsize="small")
    accuracy_axis(panels[0], feasible["accuracy"].tolist(), [], score_in(table))
    panels[0].set_ylabel(f"int8 test {metric_label(table)}")
    legend_below(figure, [Line2D([], [], color=look.colour(name)) for name in drawn], drawn)
    return figure


def _whole_seeds(finished: pd.DataFrame) -> pd.Series:
    """Which finished trials are of a seed that its method ran at every budget."""
    per_seed = finished.groupby(["method", "seed"])["budget"].transform("nunique")
    return per_seed == finished.groupby("method")["budget"].transform("nunique")


def _surface(axes: Axes, trials: pd.DataFrame, resource: str, grid: Floats, colour: str, none: float) -> None:
    seeds = trials["seed"].to_numpy()
    use, score, shown = (trials[name].to_numpy(dtype=float) for name in (resource, "val_accuracy", "accuracy"))
    drawn = np.unique(seeds)[:SEED_LIMIT]
    curves = [attained(use[mine], score[mine], shown[mine], grid) for mine in (seeds == seed for seed in drawn)]
    worst, median, best = attainment_surface(curves, none)
    there = median > none
    axes.fill_between(
        grid, worst, best, where=there & (worst > none), color=colour, alpha=0.14, linewidth=0, step="post"
    )
    axes.step(grid[there], median[there], where="post", color=colour, linewidth=1.6)
