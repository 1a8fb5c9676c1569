"""The tables of a report as plain cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES, amount
from mcu.score import Score, score_of
from mcu.terms import FINAL_STATES, TrialState
from reports.comparison.comparison import Cell, Duel
from reports.intervals import wilson
from reports.latency import bound_text, latency_of
from reports.lineage import tree
from reports.study import StudyInfo
from reports.table import Table
from reports.trials import several_networks
from reports.winners import Winner


def used(resource: str, value: float | None) -> str:
    """An amount of a resource, rounded; a dash if missing."""
    return "–" if value is None or not np.isfinite(value) else amount(resource, value, rounded=True)


def accuracy_interval(accuracy: float, study: StudyInfo) -> tuple[float, float] | None:
    """The 95 % Wilson interval of a test accuracy, if the number of test images is known."""
    return wilson(accuracy, study.test_images) if study.test_images else None


def winners_table(
    table: pd.DataFrame, winners: Sequence[Winner], study: StudyInfo, devices: Sequence[Mapping[str, Any]] = ()
) -> Table:
    """The winner of each budget with its accuracy, interval, and utilisation of each bound.

    If firmware was run, it includes executed instructions and the latency on the same device, measured or estimated.
    """
    known = {str(device.get("name")): device for device in devices}
    chosen = [table.iloc[winner.row] for winner in winners if winner.row is not None]
    measured = {number for number, _ in study.latencies}
    ran = any(trial["instructions"] > 0 or int(trial["number"]) in measured for trial in chosen)
    made_by = ("number", "method", "network") if several_networks(table) else ("number", "method")
    header: tuple[str, ...] = ("budget", "trial", *made_by[1:], "validation", "test (95 %)", "flash", "SRAM", "MACs")
    header += ("instructions", "latency", "latency is") if ran else ()
    rows: list[tuple[str, ...]] = []
    for winner in winners:
        if winner.row is None:
            rows.append((winner.budget, *("–",) * (len(header) - 1)))
            continue
        trial = table.iloc[winner.row]
        interval = accuracy_interval(float(trial["accuracy"]), study)
        spans = "" if interval is None else f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
        score = score_of(trial["metric"])
        uses = [_used(trial, winner, name) for name in ("flash", "sram", "macs")]
        shown = [score.shown(trial[name], 1) for name in ("val_accuracy", "accuracy")]
        tail: tuple[str, ...] = (shown[0], shown[1] + spans, *uses)
        if ran:
            own = known.get(winner.device or "") if trial["device"] == winner.device else None
            latency = latency_of(trial, own, study)
            on_board = latency is not None and latency.origin.startswith("measured")
            origin, bound = "measured" if on_board else "estimate", bound_text(trial, own, study)
            tail += (used("macs", trial["instructions"]), "–" if latency is None else latency.text())
            tail += ("–" if latency is None else origin + (bound and f", {bound}"),)
        rows.append((winner.budget, *(str(trial[name]) for name in made_by), *tail))
    return Table("winners", "Winners", header, tuple(rows))


def _used(trial: pd.Series, winner: Winner, name: str) -> str:
    text = used(name, trial[name])
    bound = winner.bounds.get(name)
    return text if bound is None else f"{text} ({100 * trial[name] / bound:.0f} %)"


def methods_table(cells: Sequence[Cell], score: Score) -> Table:
    """Budgets in rows, methods in columns: the winner's test accuracy, mean and spread, feasible of tried."""
    names = list(dict.fromkeys(cell.method for cell in cells))
    by_key = {(cell.budget, cell.method): cell for cell in cells}
    labels = list(dict.fromkeys(cell.budget for cell in cells))
    rows = tuple((label, *(cell_text(by_key[label, name], score) for name in names)) for label in labels)
    return Table("methods", "Methods by budget", ("budget", *names), rows)


def cell_text(cell: Cell, score: Score) -> str:
    """``95.1 % (94.8 ± 0.3, 6/6)``: best by validation, mean and spread over trials, feasible of tried."""
    if not cell.tried:
        return "not run"
    if cell.best is None or cell.mean is None:
        return f"none fits (0/{cell.tried})"
    mean, spread = score.shown(cell.mean, 1).removesuffix(" %"), ""
    if cell.spread is not None:
        spread = f" ± {100 * cell.spread:.1f}" if score.percent else f" ± {cell.spread:.2g}"
    return f"{score.shown(cell.best, 1)} ({mean}{spread}, {cell.feasible}/{cell.tried})"


def duels_table(duels: Sequence[Duel], score: Score) -> Table:
    """The reference against each method: budgets won, tied, lost, and the paired difference as scores are shown."""
    rows = []
    for duel in duels:
        difference = score.change(duel.difference)
        if duel.interval is not None:
            ends = reversed(duel.interval) if score.lower else duel.interval
            difference += f" ({' to '.join(map(score.change, ends))})"
        counts = (str(duel.wins), str(duel.ties), str(duel.losses), str(duel.pairs))
        rows.append((f"{duel.reference} against {duel.method}", *counts, difference))
    header = ("methods", "budgets won", "tied", "lost", "pairs", f"difference{score.points and ' in points'} (95 %)")
    return Table("duels", "Paired comparison", header, tuple(rows))


def lineage_table(table: pd.DataFrame) -> Table:
    """The tree of trials that started from other trials' networks; a dense parent counts once, as a separate trial."""
    trials = table.astype(object).where(table.notna(), None).to_dict("records")
    rows = [
        (
            f"{step.branch}{step.trial['number']}", step.trial["method"], step.trial["budget"], step.trial["state"],
            score_of(step.trial.get("metric")).shown(_number(step.trial["val_accuracy"])),
            score_of(step.trial.get("metric")).change(step.change),
            *(used(name, _number(step.trial[name])) for name in RESOURCES),
            "–" if step.trial["duration_s"] is None else f"{step.trial['duration_s']:,.0f} s",
        )
        for step in tree(trials)
    ]  # fmt: skip
    header = (
        "trial",
        "method",
        "budget",
        "state",
        "validation",
        "change",
        "flash",
        "SRAM",
        "MACs",
        "time",
    )
    return Table("lineage", "Lineage", header, tuple(rows))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def failures_table(table: pd.DataFrame) -> Table:
    """Every reason why trials gave no feasible model: number, methods and trials."""
    bad = table[table["state"].isin(set(FINAL_STATES) - {TrialState.COMPLETE})]
    rows = []
    for (state, reason), trials in bad.groupby(["state", bad["reason"].fillna("no reason given")], sort=False):
        numbers = [str(number) for number in trials["number"]]
        shown = ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
        methods = ", ".join(dict.fromkeys(str(name) for name in trials["method"]))
        rows.append((str(state), str(reason), str(len(numbers)), methods, shown))
    rows.sort(key=lambda row: -int(row[2]))
    return Table(
        "failures", "Trials without a feasible model", ("state", "reason", "trials", "methods", "numbers"), tuple(rows)
    )
