"""The tables of a report as plain cells, and those cells as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES
from reports.comparison.comparison import Cell, Duel
from reports.csv_cells import safe_cell
from reports.intervals import wilson
from reports.latency import latency_ms, milliseconds
from reports.lineage import tree
from reports.study import StudyInfo
from reports.winners import Winner


@dataclass(frozen=True)
class Table:
    """A small table of texts with a title."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_csv(self) -> str:
        """Comma-separated, header first."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(safe_cell, self.header))
        writer.writerows(map(safe_cell, row) for row in self.rows)
        return stream.getvalue()

    def as_markdown(self) -> str:
        """A GitHub table."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "".join("| " + " | ".join(_escape(cell, _MARKDOWN) for cell in line) + " |\n" for line in lines)

    def as_latex(self) -> str:
        """A booktabs ``tabular``."""
        body = [" & ".join(_escape(cell, _LATEX) for cell in line) + r" \\" for line in self.rows]
        head = " & ".join(_escape(cell, _LATEX) for cell in self.header) + r" \\"
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}", ""])


_MARKDOWN = {"\\": "\\\\", "|": "\\|", "\n": " ", "<": "&lt;"}
_LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "×": r"$\times$", "\n": " "},
}


def _escape(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)


def percent(value: float | None, digits: int = 1) -> str:
    """``0.934`` as ``93.4 %``; a dash when missing."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"


def kilobytes(value: float | None) -> str:
    """Bytes in KB (1024) with one decimal; a dash when missing."""
    return "–" if value is None or not np.isfinite(value) else f"{value / 1024:,.1f} KB"


def millions(value: float | None) -> str:
    """A count in millions, thousands below a tenth of a million; a dash when missing."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value / 1e6:,.2f} M" if value >= 1e5 else f"{value / 1e3:,.1f} k"


TITLES = ("flash", "SRAM", "MACs")
WRITE = {"flash": kilobytes, "sram": kilobytes, "macs": millions}


def accuracy_interval(accuracy: float, study: StudyInfo) -> tuple[float, float] | None:
    """The 95 % Wilson interval of a test accuracy, where the number of test images is known."""
    return wilson(accuracy, study.test_images) if study.test_images else None


def winners_table(
    table: pd.DataFrame, winners: Sequence[Winner], study: StudyInfo, devices: Sequence[Mapping[str, Any]] = ()
) -> Table:
    """The winner of each budget with its accuracy, interval, and what it uses of each bound.

    Where firmware was run there are its instructions, and the latency estimated from them for the board they were
    counted for.
    """
    known = {str(device.get("name")): device for device in devices}
    ran = any(winner.row is not None and table["instructions"].iloc[winner.row] > 0 for winner in winners)
    rows: list[tuple[str, ...]] = []
    for winner in winners:
        if winner.row is None:
            rows.append((winner.budget, *("–",) * (9 if ran else 7)))
            continue
        trial = table.iloc[winner.row]
        interval = accuracy_interval(float(trial["accuracy"]), study)
        spans = "" if interval is None else f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
        used = [_used(trial, winner, name) for name in ("flash", "sram", "macs")]
        tail: tuple[str, ...] = (percent(trial["val_accuracy"]), percent(trial["accuracy"]) + spans, *used)
        if ran:
            own = known.get(winner.device or "") if trial["device"] == winner.device else None
            estimate = latency_ms(float(trial["instructions"]), own)
            tail += (millions(trial["instructions"]), "–" if estimate is None else milliseconds(estimate))
        rows.append((winner.budget, str(trial["number"]), str(trial["method"]), *tail))
    header: tuple[str, ...] = ("budget", "trial", "method", "validation", "test (95 %)", "flash", "SRAM", "MACs")
    header += ("instructions", "latency (estimate)") if ran else ()
    return Table("winners", "Winners", header, tuple(rows))


def _used(trial: pd.Series, winner: Winner, name: str) -> str:
    text = WRITE[name](trial[name])
    bound = winner.bounds.get(name)
    return text if bound is None else f"{text} ({100 * trial[name] / bound:.0f} %)"


def methods_table(cells: Sequence[Cell]) -> Table:
    """Budgets down, methods across: the winner's test accuracy, mean and spread, feasible of tried."""
    names = list(dict.fromkeys(cell.method for cell in cells))
    by_key = {(cell.budget, cell.method): cell for cell in cells}
    labels = list(dict.fromkeys(cell.budget for cell in cells))
    rows = tuple((label, *(cell_text(by_key[label, name]) for name in names)) for label in labels)
    return Table("methods", "Methods by budget", ("budget", *names), rows)


def cell_text(cell: Cell) -> str:
    """``95.1 % (94.8 ± 0.3, 6/6)``: best by validation, mean and spread over trials, feasible of tried."""
    if not cell.tried:
        return "not run"
    if cell.best is None or cell.mean is None:
        return f"none fits (0/{cell.tried})"
    spread = "" if cell.spread is None else f" ± {100 * cell.spread:.1f}"
    return f"{percent(cell.best)} ({100 * cell.mean:.1f}{spread}, {cell.feasible}/{cell.tried})"


def duels_table(duels: Sequence[Duel]) -> Table:
    """The reference against each method: budgets won, tied, lost, and the paired difference in points."""
    rows = []
    for duel in duels:
        difference = "–" if duel.difference is None else f"{100 * duel.difference:+.2f}"
        if duel.interval is not None:
            difference += f" ({100 * duel.interval[0]:+.2f} to {100 * duel.interval[1]:+.2f})"
        counts = (str(duel.wins), str(duel.ties), str(duel.losses), str(duel.pairs))
        rows.append((f"{duel.reference} against {duel.method}", *counts, difference))
    header = ("methods", "budgets won", "tied", "lost", "pairs", "difference in points (95 %)")
    return Table("duels", "Paired comparison", header, tuple(rows))


def lineage_table(table: pd.DataFrame) -> Table:
    """The tree of trials that began with one another's networks; a dense parent counts once, as a trial of its own."""
    trials = table.astype(object).where(table.notna(), None).to_dict("records")
    rows = [
        (
            f"{step.branch}{step.trial['number']}", step.trial["method"], step.trial["budget"], step.trial["state"],
            percent(_number(step.trial["val_accuracy"]), 2),
            "–" if step.change is None else f"{100 * step.change:+.2f}",
            *(WRITE[name](_number(step.trial[name])) for name in RESOURCES),
            "–" if step.trial["duration_s"] is None else f"{step.trial['duration_s']:,.0f} s",
        )
        for step in tree(trials)
    ]  # fmt: skip
    header = ("trial", "method", "budget", "state", "validation", "points to its ancestor", *TITLES, "time")
    return Table("lineage", "Lineage", header, tuple(rows))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def failures_table(table: pd.DataFrame) -> Table:
    """Every reason for which trials did not give a feasible model: how many, of which methods, which trials."""
    bad = table[table["state"].isin(["failed", "infeasible", "stopped"])]
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
