"""Readable axes: sizes in KB and MB, counts in k and M, accuracies in percent, device limits as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Formatter, FuncFormatter, MaxNLocator, NullLocator

from mcu.budget import amount
from mcu.score import Score
from reports.figures.style import SOFT

_DURATIONS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_LABEL_GAP = 0.062  # least distance of two device labels, as a share of the axes' width


def log_ticks(low: float, high: float, resource: str, most: int = 9) -> list[float]:
    """Round tick values on a log axis: powers of two for bytes, 1-2-5 steps for counts, no more than ``most``.

    If the range is too short for three of these, evenly spaced round numbers.
    """
    if resource == "macs":
        exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**power for power in exponents for step in steps]
            ticks = [tick for tick in ticks if low <= tick <= high]
            if len(ticks) <= most:
                break
    else:
        exponents = range(int(np.ceil(np.log2(low))), int(np.floor(np.log2(high))) + 1)
        stride = max(1, int(np.ceil(len(exponents) / most)))
        ticks = [2.0**power for power in exponents if power % stride == 0]
    unit = 1024.0 if resource != "macs" and high >= 1024 else 1.0
    return ticks if len(ticks) >= 3 else _apart(even_ticks(low, high, unit), 0.8 / most * np.log(high / low))


def _apart(ticks: Sequence[float], gap: float) -> list[float]:
    """The ticks, from the lowest, without those that would run into the one before on a log axis."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or np.log(tick / kept[-1]) >= gap:
            kept.append(tick)
    return kept


def even_ticks(low: float, high: float, unit: float = 1.0, most: int = 6) -> list[float]:
    """Three to ``most`` (6 or more) multiples of a round step (1, 2, 2.5 or 5 times a power of ten) of ``unit``."""
    power = np.floor(np.log10((high - low) / unit)) - 1
    for step in (factor * 10.0 ** (power + up) * unit for up in range(4) for factor in (1, 2, 2.5, 5)):
        first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
        if last - first < most:
            return [float(f"{step * k:.12g}") for k in range(first, last + 1)]
    return []


def unit_of_time(seconds: float) -> tuple[float, str]:
    """The largest unit in which the duration is at least 2: its length in seconds, and its name."""
    return next((pair for pair in _DURATIONS if seconds >= 2 * pair[0]), _DURATIONS[-1])


def duration_axis(axes: Axes, seconds: float) -> tuple[float, str]:
    """Ticks for an x axis up to this many seconds; returns their unit, as `unit_of_time`."""
    size, unit = unit_of_time(seconds)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return size, unit


def resource_axis(axes: Axes, values: Sequence[float], resource: str, most: int = 9) -> tuple[float, float]:
    """Make x a log axis over ``values`` with about ``most`` readable ticks; returns its limits."""
    known = [value for value in values if np.isfinite(value) and value > 0]
    low, high = (min(known), max(known)) if known else (1024.0, 1024.0**2)
    margin = max((high / low) ** 0.05, 1.15)
    limits = (low / margin, high * margin)
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*limits, resource, most)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(resource, value)))
    return limits


ACCURACY = Score("accuracy")


class PercentTicks(Formatter):
    """Fractions as percent, with as many decimals as the ticks need."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        """Label of the tick at ``value``."""
        ticks = 100 * np.asarray(self.locs, dtype=float)
        decimals = next((places for places in range(3) if np.allclose(ticks, ticks.round(places), atol=1e-6)), 3)
        return f"{100 * value:.{decimals}f} %"


def score_ticks(score: Score) -> Formatter:
    """Labels of a score's axis: percent, or its own unit, which is not negated."""
    return PercentTicks() if score.percent else FuncFormatter(lambda value, _: score.shown(value))


def accuracy_axis(axes: Axes, values: Sequence[float], keep: Sequence[float], score: Score = ACCURACY) -> int:
    """Make y a score axis that shows all of ``keep`` and most of ``values``. Returns how many values are below it."""
    known = np.asarray([value for value in values if np.isfinite(value)])
    axes.yaxis.set_major_formatter(score_ticks(score))
    if not len(known):
        axes.set_ylim(0, 1)
        return 0
    kept = np.asarray([value for value in keep if np.isfinite(value)])
    low = min(float(np.quantile(known, 0.02)), float(kept.min()) if len(kept) else np.inf)
    high = max([float(known.max()), *kept])
    span = max(high - low, 0.02 if score.percent else 1e-6 * abs(high) or 1e-9)
    bottom, top = 0.0 if score.bounded else -np.inf, 1.0 if score.percent else np.inf
    axes.set_ylim(max(bottom, low - 0.08 * span), min(top, high + 0.08 * span))
    return int((known < low - 0.08 * span).sum())


def device_lines(axes: Axes, limits: Mapping[str, float]) -> None:
    """Vertical lines at device limits, each with its name above the axes; labels are moved apart until none overlap."""
    low, high = axes.get_xlim()
    inside = sorted((limit, name) for name, limit in limits.items() if low <= limit <= high)
    merged: dict[float, list[str]] = {}
    for limit, name in inside:
        merged.setdefault(limit, []).append(name)
    places = [float(np.log(limit / low) / np.log(high / low)) for limit in merged]
    for (limit, names), place, label_at in zip(merged.items(), places, spread(places, _LABEL_GAP), strict=True):
        axes.axvline(limit, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(
            [place, label_at],
            [1.0, 1.035],
            transform=axes.transAxes,
            clip_on=False,
            color=SOFT,
            linewidth=0.6,
            scalex=False,
            scaley=False,
        )
        text = ", ".join(names) if len(names) <= 2 else f"{names[0]} +{len(names) - 1}"
        axes.text(
            label_at,
            1.045,
            text,
            transform=axes.transAxes,
            rotation=38,
            rotation_mode="anchor",
            ha="left",
            va="center",
            fontsize="x-small",
            color=SOFT,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Sorted positions moved as little as needed so that neighbours are ``gap`` apart, kept near 0..1."""
    moved = list(places)
    for _ in range(200):
        shifted = False
        for at in range(len(moved) - 1):
            lack = gap - (moved[at + 1] - moved[at])
            if lack > 1e-6:
                moved[at] -= lack / 2
                moved[at + 1] += lack / 2
                shifted = True
        overhang = moved[-1] - 1.0 if moved else 0.0
        if overhang > 1e-6:
            moved[-1] -= overhang
            shifted = True
        if not shifted:
            break
    return moved
