from __future__ import annotations

import json
import sqlite3
import sys
from datetime import UTC, datetime, timedelta

import pytest
from fake_sweep import make_sweep
from scripted import good, scripted

from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished, Reported, Started
from orchestrator.queries.study_status import read_status
from orchestrator.running.progress import LineWatcher
from orchestrator.spec import EpochReport, TrialResult
from orchestrator.storage.store import Store
from orchestrator.storage.study_lock import utc_now
from search_spaces.budgets import BudgetsSection


def test_a_running_study_tells_what_each_budget_has_and_each_worker_does(storage, capsys):
    seen = []

    def script(attempt, spec, nth):
        if len(executor_seen) == 4:
            store = Store(storage)
            seen.append(read_status(store, store.study()))
            store.close()
            assert cli.run(["status", "--storage", storage]) == 0
        executor_seen.append(spec)
        return [Started(attempt, "here", 42), Reported(attempt, EpochReport(step=0, epochs_done=3.0, phase="training")),
                Finished(attempt, good(spec).model_copy(update={"feasible": True}))]  # fmt: skip

    executor_seen: list = []
    scripted(storage, make_sweep(trials=7), script)
    [status] = seen
    assert (status.planned, status.states["complete"]) == (7, status.done)
    assert status.runner is not None
    assert [budget.name for budget in status.budgets] == ["64KB flash", "32KB flash, 40,000 B SRAM"]
    assert sum(budget.done for budget in status.budgets) == status.done
    assert sum(budget.left for budget in status.budgets) == 7 - status.done
    best = status.budgets[1]
    assert best.use == {"flash": 30000 / 32768, "sram": 30000 / 40000}
    assert [trial.number for trial in status.running] == [4]
    assert status.running[0].worker == "waiting for a worker"
    shown = capsys.readouterr().out
    assert "waiting for a worker: trial 4 fake 64KB flash" in shown
    assert "75%" in shown


def test_a_finished_study_is_watched_once_and_told_as_json(storage, capsys):
    scripted(storage, make_sweep(trials=3))
    capsys.readouterr()
    assert cli.run(["status", "--storage", storage, "--watch"]) == 0
    assert capsys.readouterr().out.startswith("study s: 3 of 3 trials done (3 complete)")
    assert cli.run(["status", "--storage", storage, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"] == 3
    assert told["running"] is None
    assert told["trials"] == []
    assert [budget["left"] for budget in told["budgets"]] == [0, 0]


def test_budgets_that_were_chosen_from_results_have_a_winner_and_those_before_no_trials_left(storage, capsys):
    ranges = {"flash": ("32KB", "64KB"), "count": 2, "plan": "adaptive"}
    sweep = make_sweep(trials=4).model_copy(update={"budgets": BudgetsSection.model_validate(ranges)})
    scripted(storage, sweep, watcher=LineWatcher(sys.stderr))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert cli.run(["status", "--storage", storage, "--format", "json"]) == 0
    assert [(budget["done"], budget["left"]) for budget in json.loads(capsys.readouterr().out)["budgets"]] == [
        (1, 0)
    ] * 2
    assert cli.run(["best", "--storage", storage, "--format", "json"]) == 0
    won = [row["budget"] for row in json.loads(capsys.readouterr().out)]
    assert len(set(won)) == 4
    assert all(f"trial {number} fake for {won[number]}:" in line for number, line in enumerate(lines[1:5])), lines


def test_two_devices_of_equal_bounds_are_told_apart(storage, capsys):
    devices = {"devices": ["stm32f411re", "stm32f446re"]}
    sweep = make_sweep(trials=5).model_copy(update={"budgets": BudgetsSection.model_validate(devices)})
    scripted(storage, sweep, watcher=LineWatcher(sys.stderr))
    lines = capsys.readouterr().err
    assert cli.run(["status", "--storage", storage, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["budgets"]
    assert [(row["name"], row["done"], row["left"]) for row in told] == [("stm32f411re", 3, 0), ("stm32f446re", 2, 0)]
    assert all(f"fake for {device}:" in lines for device in devices["devices"]), lines


def test_a_stored_sweep_without_what_has_a_default_is_read_with_it(storage, capsys):
    scripted(storage, make_sweep(trials=2))
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as connection:
        gone = "'$.methods', '$.sweep.seed', '$.sweep.trials'"
        connection.execute(f"update mcusweep_studies set sweep_json = json_remove(sweep_json, {gone})")
    connection.close()
    assert cli.run(["status", "--storage", storage, "--format", "json"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("ends", [[], ["2026-01-01T10:00:00.000Z"]])
def test_no_pace_is_told_before_two_trials_have_ended(ends):
    from orchestrator.queries.study_status import _per_hour

    assert _per_hour(ends) is None


def test_the_pace_is_that_of_the_last_half_hour():
    from orchestrator.queries.study_status import _per_hour

    ends = ["2026-01-01T02:00:00.000Z", *(f"2026-01-01T10:{minute:02}:00.000Z" for minute in range(0, 30, 5))]
    assert _per_hour(ends) == pytest.approx(12.0)
    at_once, later = (datetime(2026, 1, 1, hour, minute, tzinfo=UTC) for hour, minute in ((10, 30), (15, 0)))
    assert _per_hour(ends, at_once) == pytest.approx(12.0)
    assert _per_hour(ends, later) == pytest.approx(1.2)  # a worker that stopped has not "5 min left" for ever


def test_a_worker_that_does_not_report_is_said_to_be_silent(storage, capsys):
    def script(attempt, spec, nth):
        told.append(attempt)
        if len(told) == 1:
            return [Started(attempt, "here", 42)]
        if len(told) == 2:
            return [Finished(attempt, good(spec))]
        store = Store(storage)
        study = store.study()
        later.append(read_status(store, study, lambda: utc_now() + timedelta(minutes=11)).running)
        later.append(read_status(store, study).running)
        return [Finished(told[0], good(spec)), Finished(attempt, good(spec))]

    told: list = []
    later: list = []
    scripted(storage, make_sweep(trials=3), script)
    assert [trial.silent for running in later for trial in running if trial.worker == "here:42"] == [True, False]


def test_why_trials_failed_is_told_in_few_lines(storage, capsys):
    def script(attempt, spec, nth):
        told.append(attempt)
        return [Finished(attempt, TrialResult(state="failed", reason=f"[bold]reason {(len(told) - 1) % 7}"))]

    told: list = []
    scripted(storage, make_sweep(trials=20), script)
    capsys.readouterr()
    assert cli.run(["status", "--storage", storage]) == 0
    shown = capsys.readouterr().out
    assert "failed: 0, 7, 14: [bold]reason 0" in shown
    assert "and 2 more reasons" in shown
