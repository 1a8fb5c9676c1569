"""How the winners were trained: use of the bounds and accuracy over epochs, and the widths they were left with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from reports.figures.style import BAD, INK, SOFT, legend_below, new_figure
from reports.trials import RESOURCE_TITLES
from reports.winners import Winner

_LINES = {"flash": "#0072b2", "sram": "#d55e00", "macs": "#009e73"}
MOST = 6  # winners drawn side by side


def trajectory_figure(table: pd.DataFrame, winners: Sequence[Winner], width: float = 7.2) -> Figure | None:
    """Per winner: above, each resource as a multiple of its bound over the epochs (log scale); below, accuracy."""
    drawn = [winner for winner in winners if winner.row is not None and _steps(table, winner.row)][:MOST]
    if not drawn:
        return None
    figure = new_figure(width, 3.7)
    panels = figure.subplots(2, len(drawn), sharex=True, sharey="row", squeeze=False)
    for column, winner in enumerate(drawn):
        assert winner.row is not None
        trial = table.iloc[winner.row]
        steps = _steps(table, winner.row)
        _use(panels[0][column], steps, trial, winner.bounds)
        _accuracy(panels[1][column], steps)
        title = f"{winner.budget.replace(', ', chr(10))}\n{trial['method']}"
        panels[0][column].set_title(title, fontsize="small", fontweight="normal")
    panels[0][0].set_ylabel("used / bound")
    panels[1][0].set_ylabel("validation accuracy")
    panels[1][0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    for axes in panels[1]:
        axes.set_xlabel("epochs")
    handles = [Line2D([], [], color=colour) for colour in _LINES.values()]
    legend_below(figure, [*handles, Line2D([], [], color=BAD)], [*RESOURCE_TITLES.values(), "bound"])
    return figure


def _steps(table: pd.DataFrame, row: int) -> list[Mapping[str, Any]]:
    steps = table["trajectory"].iloc[row]
    return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list | tuple) else []


def series(steps: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one quantity over the steps that report it."""
    pairs = [(step.get("epochs_done", step.get("step", at)), step.get(name)) for at, step in enumerate(steps)]
    known = [(float(x), float(y)) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _use(axes: Axes, steps: Sequence[Mapping[str, Any]], trial: pd.Series, bounds: Mapping[str, float]) -> None:
    for name, colour in _LINES.items():
        x, y = series(steps, name)
        bound = bounds.get(name)
        if bound and y:
            axes.step(x, np.asarray(y) / bound, where="post", color=colour, linewidth=1.5)
        elif y and trial[f"dense_{name}"] > 0:
            axes.step(x, np.asarray(y) / trial[f"dense_{name}"], where="post", color=colour, linewidth=1, linestyle=":")
    axes.axhline(1.0, color=BAD, linewidth=1)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×" if value >= 1 else f"1/{1 / value:g}×")
    axes.minorticks_off()


def _accuracy(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    x, y = series(steps, "val_accuracy")
    axes.plot(x, y, color=INK, linewidth=1.3)


def widths_figure(table: pd.DataFrame, winners: Sequence[Winner], width: float = 7.2) -> Figure | None:
    """Channels the winners kept, layer by layer: the number, shaded by its share of the dense network's."""
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
