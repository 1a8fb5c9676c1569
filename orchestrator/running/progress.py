"""Progress on stderr: a live table per budget on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mcu.budget import Budget
from mcu.score import SCORES, Score, score_of
from mcu.terms import Metric, TrialState
from mcu.units import format_duration
from orchestrator.executors.base import LossReason
from orchestrator.planning.plan import DENSE, Plan
from orchestrator.running.watcher import Watcher
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.tables import bar, printable

Clock = Callable[[], float]
REFRESH_SECONDS = 0.5
CHOSEN_LATER = "other budgets"
"""How displays call the budgets that are chosen as results come."""


def make_watcher(quiet: bool, stream: IO[str] | None = None) -> Watcher:
    """The display that suits the terminal; warnings are shown also when quiet."""
    stream = stream or sys.stderr
    if quiet:
        return QuietWatcher(stream)
    return LiveWatcher(stream) if stream.isatty() else LineWatcher(stream)


class QuietWatcher(Watcher):
    """Shows only warnings."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        """Print it."""
        print(printable(text), file=self._stream, flush=True)


@dataclass
class Tally:
    """Counts and best results of a run, shared by all displays."""

    clock: Clock = time.monotonic
    planned: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    capacity: int = 1
    labels: dict[tuple[Budget, str | None], str] = field(default_factory=dict)  # two devices may have equal bounds
    left: dict[str, int] = field(default_factory=dict)
    best: dict[str, TrialResult] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    running: dict[int, tuple[TrialSpec, EpochReport | None]] = field(default_factory=dict)
    began: float = 0.0
    found: int = 0
    score: Score = SCORES[Metric.ACCURACY]

    def begin(self, plan: Plan, finished: list[tuple[TrialSpec, TrialResult]], capacity: int) -> None:
        """Initialise from the plan and the finished trials of earlier runs."""
        self.planned, self.capacity, self.began = len(plan.trials), capacity, self.clock()
        budgets = (DENSE, *(cell.budget for cell in plan.cells))
        self.labels = {(budget, budget.device): budget.label for budget in budgets}
        self.score = score_of(plan.sweep.training.judged_by)
        adaptive = plan.sweep.budgets.plan == "adaptive"
        for trial in plan.trials:
            name = CHOSEN_LATER if adaptive and trial.index >= len(plan.cells) else trial.budget.label
            self.left[name] = self.left.get(name, 0) + 1
        for spec, result in finished:
            self.end(spec, result)
        self.found = self.done

    def name(self, spec: TrialSpec) -> str:
        """The row of the table that a trial counts in."""
        return self.labels.get((spec.budget, spec.device), CHOSEN_LATER)

    def budget(self, spec: TrialSpec) -> str:
        """Label of a trial's budget, as in reports."""
        return self.labels.get((spec.budget, spec.device), spec.budget.label)

    def end(self, spec: TrialSpec, result: TrialResult) -> None:
        """Record a result."""
        self.done += 1
        self.failed += result.state == TrialState.FAILED
        name = self.name(spec)
        self.left[name] = self.left.get(name, 0) - 1
        if result.duration_s:
            self.durations.append(result.duration_s)
        if result.state != TrialState.COMPLETE or result.violation or result.val_accuracy is None:
            return
        held = self.best.get(name)
        if held is None or result.val_accuracy > (held.val_accuracy or 0.0):
            self.best[name] = result

    def seconds_left(self) -> float | None:
        """From the median duration of the trials so far; None before the first."""
        if not self.durations:
            return None
        return (self.planned - self.done) * median(self.durations) / max(1, self.capacity)

    def headline(self) -> str:
        """Summary in one line."""
        parts = [f"{self.done}/{self.planned} trials", f"{len(self.running)} running"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.reused} reused"] if self.reused else []
        here = self.done - self.found - self.reused
        spent = self.clock() - self.began
        if here > 1 and spent > 0:
            parts.append(f"{3600 * here / spent:.0f} an hour")
        left = self.seconds_left()
        if left is not None and self.done < self.planned:
            parts.append(f"about {format_duration(left)} left")
        return ", ".join(parts)


def describe(number: int, spec: TrialSpec, result: TrialResult, name: str) -> str:
    """A finished trial in one line."""
    where = f"trial {number} {spec.method} for {name}"
    if result.state != "complete":
        return f"{where}: {result.state}: {result.reason}"
    score = score_of(spec.training.judged_by)
    use = f", {100 * result.binding_use:.0f} % of the tightest bound" if result.binding_use is not None else ""
    over = "" if not result.violation else f", over budget by {result.violation:.1%}"
    seconds = f" in {format_duration(result.duration_s)}" if result.duration_s is not None else ""
    return f"{where}: {score.shown(result.val_accuracy)} validation {score.title}{use}{over}{seconds}"


class LineWatcher(QuietWatcher):
    """One line per finished trial, for logs."""

    def __init__(self, stream: IO[str], clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._tally = Tally(clock)

    def begin(self, plan: Plan, finished: list[tuple[TrialSpec, TrialResult]], capacity: int) -> None:
        """Print the number of trials."""
        self._tally.begin(plan, finished, capacity)
        self.note(f"study {plan.sweep.sweep.name}: {self._tally.headline()}, {capacity} at a time")

    def started(self, number: int, spec: TrialSpec) -> None:
        """Count it."""
        self._tally.running[number] = (spec, None)

    def reported(self, number: int, report: EpochReport) -> None:
        """Record its progress."""
        if number in self._tally.running:
            self._tally.running[number] = (self._tally.running[number][0], report)

    def finished(self, number: int, spec: TrialSpec, result: TrialResult, reused_from: str | None) -> None:
        """Print its result and the progress of the sweep."""
        self._tally.running.pop(number, None)
        self._tally.reused += reused_from is not None
        self._tally.end(spec, result)
        line = describe(number, spec, result, self._tally.budget(spec))
        origin = f" (reused from {reused_from})" if reused_from else ""
        self.note(f"[{self._tally.headline()}] {line}{origin}")

    def lost(self, number: int, reason: LossReason, detail: str, retried: bool) -> None:
        """Print the reason and whether it is retried."""
        self._tally.running.pop(number, None)
        self.note(f"trial {number}: {reason}: {detail}; {'retrying' if retried else 'gave up'}")


class LiveWatcher(LineWatcher):
    """A table that is redrawn in place; failures and notes are printed above it."""

    def __init__(self, stream: IO[str], clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._console = Console(file=stream)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = -REFRESH_SECONDS

    def begin(self, plan: Plan, finished: list[tuple[TrialSpec, TrialResult]], capacity: int) -> None:
        """Draw for the first time."""
        self._tally.begin(plan, finished, capacity)
        self._live.start()
        self.tick()

    def finished(self, number: int, spec: TrialSpec, result: TrialResult, reused_from: str | None) -> None:
        """Count it; print a line only on a failure."""
        self._tally.running.pop(number, None)
        self._tally.reused += reused_from is not None
        self._tally.end(spec, result)
        if result.state == "failed":
            self.note(describe(number, spec, result, self._tally.budget(spec)))

    def note(self, text: str) -> None:
        """Print it above the table."""
        self._console.print(Text(printable(text)))

    def tick(self) -> None:
        """Redraw, at most twice a second."""
        now = self._tally.clock()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._live.update(self.picture(), refresh=True)

    def picture(self) -> Group:
        """The table per budget, running trials, and the summary line."""
        table = Table(box=None, pad_edge=False)
        for name in ("budget", "best so far", "tightest bound used", "trials left"):
            table.add_column(name, justify="left" if name == "budget" else "right")
        for name, left in self._tally.left.items():
            held = self._tally.best.get(name)
            accuracy = self._tally.score.shown(held.val_accuracy if held else None)
            use = bar(held.binding_use) if held and held.binding_use is not None else "–"
            table.add_row(Text(printable(name)), accuracy, use, str(left))
        running = [Text(self._activity(number)) for number in sorted(self._tally.running)[:8]]
        return Group(table, *running, Text(self._tally.headline(), style="bold"))

    def _activity(self, number: int) -> str:
        spec, report = self._tally.running[number]
        at = (
            "starting" if report is None else f"epoch {report.epochs_done:.0f} of {spec.training.epochs} {report.phase}"
        )
        return printable(f"  trial {number} {spec.method} {self._tally.budget(spec)}: {at}")

    def close(self) -> None:
        """Keep the last table on the screen."""
        self._live.stop()
        if self._tally.planned:
            self._console.print(self.picture())
