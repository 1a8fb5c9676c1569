"""Timeline of trials by worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mcu.terms import FINAL_STATES, TrialState
from reports.figures.scales import unit_of_time
from reports.figures.style import BAD, Look, legend_below, new_figure, rasterise


def timeline_figure(
    table: pd.DataFrame, attempts: Sequence[Mapping[str, Any]], look: Look, width: float = 7.2
) -> Figure | None:
    """A row per worker, a bar per attempt in its method's colour, red if it failed.

    Without ``attempts`` (number, worker_host, worker_pid, started_at, ended_at, reason) the trials' own times are
    packed into the minimum number of rows without overlap.
    """
    spans = _attempt_spans(table, attempts) if attempts else _trial_spans(table)
    if not spans:
        return None
    start = min(span[1] for span in spans)
    lanes = list(dict.fromkeys(lane for lane, *_ in sorted(spans, key=lambda span: span[0])))
    longest = max(span[2] for span in spans) - start
    size, unit = unit_of_time(longest)
    figure = new_figure(width, 1.0 + min(0.26 * len(lanes), 4.0))
    axes = figure.add_subplot()
    for at, lane in enumerate(lanes):
        mine = [span for span in spans if span[0] == lane]
        bars = [((begin - start) / size, max((end - begin) / size, 1e-3)) for _, begin, end, _, _ in mine]
        colours = [BAD if failed else look.colour(method) for _, _, _, method, failed in mine]
        axes.broken_barh(
            bars,
            (at - 0.4, 0.8),
            facecolors=colours,
            edgecolors="white",
            linewidth=0.3,
            rasterized=rasterise(len(spans)),
        )
    axes.set_yticks(range(len(lanes)), lanes if len(lanes) <= 16 else [""] * len(lanes))
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlim(0, longest / size * 1.005)
    axes.set_xlabel(f"{unit} since the start")
    axes.grid(axis="y", visible=False)
    shown = [name for name in look.order if any(span[3] == name for span in spans)]
    handles, labels = [Patch(color=look.colour(name)) for name in shown], list(shown)
    if any(span[4] for span in spans):
        handles.append(Patch(color=BAD))
        labels.append("failed")
    legend_below(figure, handles, labels)
    return figure


Span = tuple[str, float, float, str, bool]  # lane, start, end (seconds), method, failed


def _attempt_spans(table: pd.DataFrame, attempts: Sequence[Mapping[str, Any]]) -> list[Span]:
    method_of = dict(zip(table["number"], table["method"], strict=True))
    spans: list[Span] = []
    workers: dict[tuple[Any, Any], str] = {}
    for attempt in attempts:
        begin, end = _seconds(attempt.get("started_at")), _seconds(attempt.get("ended_at"))
        if begin is None or end is None:
            continue
        key = attempt.get("worker_host"), attempt.get("worker_pid")
        lane = workers.setdefault(key, f"worker {len(workers) + 1}")
        failed = attempt.get("reason") not in set(FINAL_STATES) - {TrialState.FAILED}
        spans.append((lane, begin, end, str(method_of.get(attempt.get("number"))), failed))
    return spans


def _seconds(moment: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return None


def _trial_spans(table: pd.DataFrame) -> list[Span]:
    there = table[table["started_at"].notna() & table["finished_at"].notna()].sort_values("started_at")
    free_at: list[float] = []
    spans: list[Span] = []
    for begin_at, end_at, method, state in zip(
        there["started_at"], there["finished_at"], there["method"], there["state"], strict=True
    ):
        begin, end = begin_at.timestamp(), end_at.timestamp()
        lane = next((at for at, free in enumerate(free_at) if free <= begin), len(free_at))
        if lane == len(free_at):
            free_at.append(end)
        free_at[lane] = end
        spans.append((f"lane {lane + 1}", begin, end, str(method), state == TrialState.FAILED))
    return spans
