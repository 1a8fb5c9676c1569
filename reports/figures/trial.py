"""One trial in one figure: its training, the channels it kept, and its memory while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mcu.budget import RESOURCES
from mcu.score import score_of
from mcu.terms import RuntimeName
from mcu.units import format_bytes
from reports.figures.scales import even_ticks
from reports.figures.style import BAD, GRID, INK, SOFT, new_figure
from reports.figures.trajectories import LINES, EpochReports, course_of, draw_accuracy, draw_use
from reports.trials import RESOURCE_TITLES

MOST_LAYERS = 40


def trial_figure(
    trial: Mapping[str, Any], memory: Sequence[tuple[str, int]], reports: EpochReports, width: float = 9.0
) -> Figure:
    """Training (utilisation of bounds, accuracy), channels per layer before and after, live activations per operator.

    Args:
        trial: number, method, budget_*, dense_*, trajectory, widths, dense_widths.
        memory: (operator, bytes of activations alive while it runs), in order; empty where there is no model.
        reports: reports of the trial, as in `reports.study.StudyInfo`.
    """
    layers = min(max(len(trial["widths"]), len(memory), 6), MOST_LAYERS)
    figure = new_figure(width, 3.2 + 0.2 * layers)
    grid = figure.add_gridspec(2, 2, height_ratios=[3.0, max(0.2 * layers, 1.4)])
    course = course_of(trial, reports)
    bounds = {name: float(bound) for name in RESOURCES if (bound := trial[f"budget_{name}"])}
    _use_panel(figure.add_subplot(grid[0, 0]), course, bounds)
    accuracy = figure.add_subplot(grid[0, 1])
    accuracy.set_title(f"Validation {score_of(trial.get('metric')).axis}")
    draw_accuracy(accuracy, course, score_of(trial.get("metric")))
    accuracy.set_xlabel(course.unit)
    _note_if_empty(accuracy, course.accuracy, "no accuracy was reported")
    _widths_panel(figure.add_subplot(grid[1, 0]), trial["widths"], trial["dense_widths"])
    of_arena = trial.get("runtime") != RuntimeName.FIRMWARE  # our C program has a plan of its own
    _memory_panel(figure.add_subplot(grid[1, 1]), memory, bounds.get("sram") if of_arena else None)
    return figure


def _use_panel(axes: Axes, course: Any, bounds: Mapping[str, float]) -> None:
    axes.set_title("Use of the bounds")
    draw_use(axes, course, bounds)
    axes.set_xlabel(course.unit)
    _note_if_empty(axes, course.x, "no trajectory was kept")
    edges = [at for at in range(1, len(course.phases)) if course.phases[at] != course.phases[at - 1]]
    for at in edges:
        axes.axvline(course.x[at], color=SOFT, linewidth=0.6, linestyle=(0, (2, 3)))
    starts = [0, *edges] if course.phases else []
    for at in starts:
        axes.annotate(
            course.phases[at],
            (course.x[at], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -2),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize="xx-small",
            color=SOFT,
        )
    handles = [
        Line2D([], [], color=colour, linestyle="-" if bounds.get(name) else ":") for name, colour in LINES.items()
    ]
    labels = [title if bounds.get(name) else f"{title} (of dense)" for name, title in RESOURCE_TITLES.items()]
    axes.legend(handles, labels, loc="upper right", fontsize="small")


def _note_if_empty(axes: Axes, values: Sequence[Any], text: str) -> None:
    if not values:
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=SOFT)


def _widths_panel(axes: Axes, kept: Mapping[str, int], dense: Mapping[str, int]) -> None:
    axes.set_title("Channels, before and after")
    names = list(kept)[:MOST_LAYERS]
    axes.barh(range(len(names)), [dense.get(name, kept[name]) for name in names], color=GRID, height=0.8)
    bars = axes.barh(range(len(names)), [kept[name] for name in names], color=LINES["flash"], height=0.5)
    axes.bar_label(bars, [f" {kept[name]} of {dense.get(name, kept[name])}" for name in names], fontsize="x-small")
    _layers(axes, names)
    axes.set_xlabel("channels")
    _note_if_empty(axes, names, "no widths are known")


def _memory_panel(axes: Axes, memory: Sequence[tuple[str, int]], bound: float | None) -> None:
    axes.set_title("Activations alive, operator by operator")
    shown = list(memory)[:MOST_LAYERS]
    peak = max((size for _, size in memory), default=0)
    colours = [LINES["sram"] if size == peak else "#f2b48c" for _, size in shown]
    axes.barh(range(len(shown)), [size for _, size in shown], color=colours, height=0.7)
    _layers(axes, [name for name, _ in shown])
    if bound and peak:
        axes.axvline(bound, color=BAD, linewidth=1)
        axes.legend([Patch(color=LINES["sram"]), Line2D([], [], color=BAD)], ["peak", "SRAM bound of the arena"],
                    loc="best", fontsize="x-small")  # fmt: skip
    high = max(peak, bound or 0, 1024) * 1.05
    ticks = even_ticks(0, high, 1024.0)
    axes.set_xticks(ticks, [format_bytes(tick) if tick else "0" for tick in ticks])
    axes.set_xlim(0, high)
    _note_if_empty(axes, shown, "the model file is not at hand")


def _layers(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize="x-small", color=INK)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
