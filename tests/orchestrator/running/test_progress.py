from __future__ import annotations

import io
import itertools

from fake_sweep import make_sweep

from mcu.units import format_duration
from orchestrator.executors.base import LossReason
from orchestrator.planning.plan import Plan
from orchestrator.running.progress import LineWatcher, LiveWatcher, QuietWatcher, Tally, bar, make_watcher
from orchestrator.spec import EpochReport

PLAN = Plan(make_sweep(trials=4))


def watch(watcher, result):
    spec = PLAN.spec(PLAN.trials[0], {"quality": 0.5})
    watcher.begin(PLAN, [], 2)
    watcher.started(0, spec)
    watcher.reported(0, EpochReport(step=0, epochs_done=1.0, phase="prune"))
    watcher.tick()
    watcher.finished(0, spec, result, None)
    watcher.lost(1, LossReason.WORKER_DIED, "signal 9", True)
    watcher.note("evil \x1b[31m name")
    watcher.tick()
    watcher.close()


def test_lines_tell_counts_accuracy_and_time_left(result):
    stream = io.StringIO()
    watch(LineWatcher(stream), result)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "study s: 0/4 trials, 0 running, 2 at a time"
    assert lines[1] == (
        "[1/4 trials, 0 running, about 2 s left] "
        "trial 0 fake for 64KB flash: 91.00 % validation accuracy, 96 % of the tightest bound in 2 s"
    )
    assert lines[2] == "trial 1: worker-died: signal 9; retrying"
    assert "\x1b" not in stream.getvalue()


def test_the_live_table_shows_each_budget(result):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    assert isinstance(make_watcher(quiet=False, stream=stream), LiveWatcher)
    watch(LiveWatcher(stream, clock=itertools.count().__next__), result)
    shown = stream.getvalue()
    assert "91.00 %" in shown
    assert "32KB flash, 40,000 B SRAM" in shown
    assert "epoch 1 of 20 prune" in shown
    assert "1/4 trials" in shown


def test_quiet_shows_notes_only(result):
    stream = io.StringIO()
    watcher = make_watcher(quiet=True, stream=stream)
    assert isinstance(watcher, QuietWatcher)
    watch(watcher, result)
    assert stream.getvalue().splitlines() == ["evil \\x1b[31m name"]


def test_earlier_trials_count_and_infeasible_ones_are_never_best(result):
    tally = Tally()
    over = result.model_copy(update={"violation": 0.1, "val_accuracy": 1.0})
    spec = PLAN.spec(PLAN.trials[0], {"quality": 0.5})
    tally.begin(PLAN, [(spec, result), (spec, over)], 2)
    assert (tally.done, tally.left["64KB flash"]) == (2, 0)
    assert tally.best["64KB flash"] == result


def test_durations_and_bars():
    assert [format_duration(s) for s in (12.2, 200, 7500)] == ["12 s", "3 min 20 s", "2 h 05 min"]
    assert bar(0.5, 4) == "██░░  50%"
    assert bar(3.0, 4).startswith("████")
