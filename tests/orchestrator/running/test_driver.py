from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import fake_sweep
import optuna
import pytest
from fake_sweep import make_sweep, run
from scripted import ScriptedExecutor, frame_of, good, scripted
from sqlalchemy import event, text

from mcu.errors import InputError
from orchestrator.executors.base import Event, ExecutorError, Finished, LossReason, Lost, Reported, Started
from orchestrator.running import driver as driver_module
from orchestrator.running.disk_guard import DiskGuard, DiskShort
from orchestrator.running.interrupts import Interrupts, Wish
from orchestrator.running.parts import Retries
from orchestrator.running.run import begin_study, stored_sweep
from orchestrator.running.watcher import Watcher
from orchestrator.spec import EpochReport, TrialResult
from orchestrator.storage.connection import DatabaseGone, DriverReplaced, StoreError
from orchestrator.storage.store import Store
from orchestrator.studies.confirm import plan_best_again
from search_spaces.sweep import SweepConfig


def test_every_planned_trial_is_run_once_and_mirrored_to_optuna(storage):
    report, _ = scripted(storage, make_sweep(trials=5, methods=("fake", "other")))
    assert report.finished
    assert report.counts == {"complete": 10}
    frame = frame_of(storage)
    assert list(frame["number"]) == list(range(10))
    assert list(frame["method"]) == ["fake", "other"] * 5
    assert list(frame["budget_flash"])[::2] == [65536, 32768, 65536, 32768, 65536]
    assert frame.loc[0, "seed"] == frame.loc[1, "seed"]
    assert frame["seed"].nunique() == 5
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="s", storage=storage)
    assert [trial.number for trial in study.trials] == list(range(10))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE", "MINIMIZE"]
    trial = study.trials[2]
    assert trial.state is optuna.trial.TrialState.COMPLETE
    assert trial.params["method"] == "fake"
    assert trial.values[0] == trial.params["quality"] == frame.loc[2, "param.quality"]
    assert trial.constraints == {"flash": (30000 - 32768) / 32768, "sram": (30000 - 40000) / 40000}
    assert trial.user_attrs["budget_flash"] == 32768


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid", "tpe", "nsga2", "nsga3"])
def test_each_sampler_runs_and_the_same_seed_gives_the_same_trials(tmp_path, sampler):
    tables = []
    for name in ("a", "b"):
        storage = f"sqlite:///{tmp_path}/{name}.db"
        report, _ = scripted(storage, make_sweep(trials=12, sampler=sampler))
        assert report.counts == {"complete": 12}
        tables.append(frame_of(storage)["param.quality"])
    assert tables[0].tolist() == tables[1].tolist()
    assert tables[0].nunique() > 4


def test_lost_attempts_are_retried_with_backoff_until_the_trial_is_given_up(storage):
    def script(attempt, spec, nth):
        if spec.budget.sram:
            return [Lost(attempt, LossReason.WORKER_DIED, "signal 9")]
        return [Lost(attempt, LossReason.WORKER_DIED, "")] if nth < 3 else [Finished(attempt, good(spec))]

    report, _ = scripted(storage, make_sweep(trials=2), script)
    assert report.counts == {"complete": 1, "failed": 1}
    frame = frame_of(storage)
    assert list(frame["attempts"]) == [3, 3]
    assert frame.loc[1, "reason"] == "gave up after 3 attempts: worker-died: signal 9"
    store = Store(storage)
    reasons = Counter(attempt["reason"] for attempt in store.attempts(store.study()))
    assert reasons == {"worker-died": 5, "complete": 1}


def test_an_attempt_that_exceeds_the_time_limit_is_ended_and_tried_again(storage):
    def script(attempt, spec, nth):
        begun.append(attempt)
        return [Started(attempt, "here", 1)] if len(begun) == 1 else [Finished(attempt, good(spec))]

    begun: list[str] = []
    sweep = make_sweep(trials=2)
    workers = sweep.workers.model_copy(update={"time_limit": 60_000_000})
    report, executor = scripted(storage, sweep.model_copy(update={"workers": workers}), script)
    assert report.counts == {"complete": 2}
    assert executor.withdrawn == begun[:1]
    store = Store(storage)
    [lost] = [row for row in store.attempts(store.study()) if row["reason"] == "time-limit"]
    assert lost["detail"] == "it ran for more than 1 min 00 s, which [workers] time_limit allows"
    assert 60 < executor.clock < 70


def test_waits_double_up_to_a_longest():
    retries = Retries(first_wait=1, longest_wait=5)
    assert [retries.wait(n) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_a_late_result_of_an_attempt_that_was_given_up_is_ignored(storage):
    late: list[Event] = []

    def script(attempt, spec, nth):
        if nth == 1:
            late.append(Finished(attempt, good(spec).model_copy(update={"accuracy": 0.0})))
            return [Lost(attempt, LossReason.WORKER_DIED, "")]
        return [late[0], Finished(attempt, good(spec)), late[0]]

    scripted(storage, make_sweep(trials=1), script)
    frame = frame_of(storage)
    assert frame.loc[0, "accuracy"] > 0
    assert frame.loc[0, "attempts"] == 2


def test_an_equal_trial_of_another_study_is_reused_and_marked(storage):
    sweep = make_sweep(trials=3)
    scripted(storage, sweep)
    again = sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"name": "t", "trials": 4})})
    report, executor = scripted(storage, again)
    assert report.counts == {"complete": 4}
    assert len(executor.seen) == 1
    assert list(frame_of(storage)["reused_from"])[:3] == ["s#0", "s#1", "s#2"]


def test_a_study_continues_only_with_the_same_sweep(storage):
    sweep = make_sweep(trials=2)
    scripted(storage, sweep)
    report, executor = scripted(storage, sweep)
    assert report.finished
    assert executor.seen == []
    with pytest.raises(InputError, match=r"another sweep: hyperparameters\.reports: 1 -> 2; sweep\.trials: 2 -> 3"):
        scripted(storage, make_sweep(trials=3, reports=2))
    store = Store(storage)
    assert stored_sweep(store.study()) == sweep


def test_first_interrupt_finishes_what_runs_and_a_second_run_does_the_rest(storage):
    interrupts = Interrupts()

    def script(attempt, spec, nth):
        interrupts.wish = Wish.FINISH_RUNNING
        return [Finished(attempt, good(spec))]

    report, executor = scripted(storage, make_sweep(trials=6), script, interrupts=interrupts)
    assert not report.finished
    assert report.counts == {"complete": len(executor.seen)}
    assert 1 <= len(executor.seen) < 6
    report, rest = scripted(storage, make_sweep(trials=6))
    assert report.counts == {"complete": 6}
    assert len(executor.seen) + len(rest.seen) == 6


def test_second_interrupt_plans_running_trials_again_with_their_spec(storage):
    interrupts = Interrupts()

    def script(attempt, spec, nth):
        interrupts.wish = Wish.STOP_NOW
        return []

    report, executor = scripted(storage, make_sweep(trials=3), script, interrupts=interrupts)
    assert report.counts == {"planned": len(executor.seen)}
    report, again = scripted(storage, make_sweep(trials=3))
    assert again.seen[: len(executor.seen)] == executor.seen
    assert report.counts == {"complete": 3}
    store = Store(storage)
    assert {attempt["reason"] for attempt in store.attempts(store.study())} == {"interrupted", "complete"}


def test_signals_count_once_then_now():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.wish is Wish.FINISH_RUNNING
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.wish is Wish.STOP_NOW
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.wish is Wish.STOP_NOW


def test_a_dead_executor_leaves_trials_to_resume(storage):
    class Dying(ScriptedExecutor):
        def poll(self, timeout):
            raise ExecutorError("all is lost")

    with pytest.raises(ExecutorError, match="all is lost"):
        run(storage, make_sweep(trials=3), make_executor=lambda *_: Dying())
    report, _ = scripted(storage, make_sweep(trials=3))
    assert report.counts == {"complete": 3}


def test_a_full_disk_stops_the_driver_and_keeps_every_stored_result(storage):
    store = Store(storage, writing=True)
    sweep = make_sweep(trials=40)
    study = begin_study(store, sweep, None)

    def fill(*_):
        def script(attempt, spec, nth):
            if len(executor.seen) == 10:
                with store.engine.connect() as connection:
                    pages = connection.scalar(text("PRAGMA page_count"))
                event.listen(store.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {pages + 3}"))
                store.engine.dispose()
            return [Finished(attempt, good(spec).model_copy(update={"trajectory": [{"x": "y" * 3000}]}))]

        executor = ScriptedExecutor(script)
        return executor

    with pytest.raises(StoreError, match=r"sweep\.db.*full"):
        fake_sweep.run_study(store, study, sweep, fake_sweep.OPTIONS, Watcher(), Interrupts(), fill)
    store.close()
    kept = frame_of(storage)
    done = kept[kept["state"] == "complete"].set_index("number")["accuracy"].to_dict()
    assert 5 <= len(done) < 40
    assert Store(storage).integrity() == "ok"
    report, executor = scripted(storage, sweep)
    assert report.counts == {"complete": 40}
    after = frame_of(storage).set_index("number")["accuracy"].to_dict()
    assert {number: after[number] for number in done} == done
    assert len(executor.seen) == 40 - len(done)


def test_too_little_free_space_begins_no_more_trials_and_says_so_once(storage, tmp_path, monkeypatch):
    free = {"bytes": 10**9}
    monkeypatch.setattr(
        "orchestrator.running.run.disk_guard", lambda *_: DiskGuard((tmp_path,), 10**8, lambda _: free["bytes"])
    )

    def script(attempt, spec, nth):
        if len(executors[0].seen) == 3:
            free["bytes"] = 10**7
        return [Finished(attempt, good(spec))]

    executors = [ScriptedExecutor(script)]
    with pytest.raises(DiskShort, match=r"only 10,000,000 B are free in .*no more trials are started$"):
        run(storage, make_sweep(trials=9), make_executor=lambda *_: executors[0])
    begun = len(executors[0].seen)
    assert 3 <= begun <= 4
    assert list(frame_of(storage)["state"]) == ["complete"] * begun
    free["bytes"] = 10**9
    report, rest = scripted(storage, make_sweep(trials=9))
    assert report.counts == {"complete": 9}
    assert len(rest.seen) == 9 - begun


def test_a_second_driver_on_the_same_study_is_refused(storage):
    def script(attempt, spec, nth):
        with pytest.raises(InputError, match="is being run by process"):
            scripted(storage, make_sweep(trials=1))
        return [Finished(attempt, good(spec))]

    report, _ = scripted(storage, make_sweep(trials=1), script)
    assert report.counts == {"complete": 1}


def test_rungs_are_stored_and_an_optimiser_never_sees_a_stopped_trial_as_good(storage):
    def script(attempt, spec, nth):
        stopped = TrialResult(state="stopped", reason="stopped early", flash=30000, sram=1, macs=1)
        return [Reported(attempt, EpochReport(step=0, val_accuracy=0.3)), Finished(attempt, stopped)]

    scripted(storage, make_sweep(trials=2), script)
    store = Store(storage)
    assert [report["val_accuracy"] for report in store.epoch_reports(store.study())] == [0.3, 0.3]
    study = optuna.load_study(study_name="s", storage=storage)
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.PRUNED}
    assert all(trial.constraints["stopped"] > 0 for trial in study.trials)


def test_a_worker_killed_for_good_measure_is_retried_by_the_real_pool(storage):
    report = run(storage, make_sweep(trials=3, deaths=1, reports=2))
    assert report.counts == {"complete": 3}
    assert list(frame_of(storage)["attempts"]) == [2, 2, 2]


@pytest.mark.slow
def test_killed_drivers_lose_and_repeat_nothing(storage, tmp_path):
    """kill -9 of the driver at random moments, then a last run: every planned trial has exactly one result."""
    trials = 30
    sweep = make_sweep(trials=trials, sampler="tpe", sleep=0.05, reports=2)
    store = Store(storage, writing=True)
    study = begin_study(store, sweep, None)
    script = Path(fake_sweep.__file__)
    before: dict[int, tuple] = {}
    moments = random.Random(0)
    for _ in range(3):
        driver = subprocess.Popen([sys.executable, str(script), storage], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        target = len(before) + 1 + moments.randrange(6)
        while store.state_counts(study).get("complete", 0) < target and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.2)
        driver.kill()
        driver.wait()
        frame = frame_of(storage)
        done = {
            row.number: (row.spec_hash, row.accuracy, row.finished_at) for row in frame.itertuples() if row.accuracy > 0
        }
        assert before.items() <= done.items()
        assert len(done) > len(before)
        before = done
    last = subprocess.run([sys.executable, str(script), storage], capture_output=True, text=True, timeout=120)
    assert last.returncode == 0, last.stderr
    frame = frame_of(storage)
    assert list(frame["number"]) == list(range(trials))
    assert set(frame["state"]) == {"complete"}
    for row in frame.itertuples():
        if row.number in before:
            assert before[row.number] == (row.spec_hash, row.accuracy, row.finished_at)
    assert store.integrity() == "ok"
    completed = Counter(a["number"] for a in store.attempts(study) if a["reason"] == "complete")
    assert completed == dict.fromkeys(range(trials), 1)
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as connection:
        states = connection.execute("select state, count(*) from trials group by state").fetchall()
    assert states == [("COMPLETE", trials)]


def test_an_executor_hears_how_many_trials_could_run_and_the_log_is_merged_now_and_then(storage, monkeypatch):
    """Who copies only the file of a database, while a sweep runs, misses a minute and not all."""
    monkeypatch.setattr(driver_module, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(driver_module, "CHECKPOINT_SECONDS", 0.0)
    in_file: list[int] = []

    class Hearing(ScriptedExecutor):
        wanted: ClassVar[list[int]] = []

        def want(self, trials):
            self.wanted.append(trials)
            if len(self.seen) > 2:
                file = f"file:{storage.removeprefix('sqlite:///')}?immutable=1"
                with closing(sqlite3.connect(file, uri=True)) as connection:
                    in_file.append(connection.execute("select count(*) from mcusweep_trials").fetchone()[0])

    executor = Hearing()
    run(storage, make_sweep(trials=6), make_executor=lambda *_: executor)
    assert executor.wanted == [6, 4, 2]
    assert in_file == [2, 4]


def test_a_database_that_is_deleted_while_a_sweep_runs_stops_it_with_the_path(storage, tmp_path):
    def script(attempt, spec, nth):
        (tmp_path / "sweep.db").unlink(missing_ok=True)
        return [Finished(attempt, good(spec))]

    with pytest.raises(DatabaseGone, match=r"sweep\.db was deleted or replaced while in use") as caught:
        scripted(storage, make_sweep(trials=6), script)
    assert not caught.value.resumable
    assert not (tmp_path / "sweep.db").exists()


def test_a_driver_whose_study_was_taken_over_stops_and_leaves_it_to_the_other(storage):
    other = []

    def script(attempt, spec, nth):
        if not other:
            other.append(Store(storage, writing=True).lock("s", take_over=True).__enter__())
        return [Finished(attempt, good(spec))]

    with pytest.raises(DriverReplaced, match="another driver has taken over study 's'"):
        scripted(storage, make_sweep(trials=6), script)
    other[0].renew()
    assert "complete" not in set(frame_of(storage)["state"])


@pytest.mark.parametrize("changed", ["code beside the sweep", "data of task 'mnist-5k'"])
def test_a_study_goes_on_with_the_code_and_the_data_it_began_with_alone(storage, tmp_path, monkeypatch, changed):
    module, digest = tmp_path / "own_networks.py", ["before"]
    module.write_text("def build():\n    return 1\n")
    monkeypatch.setattr("orchestrator.planning.plan.task_digest", lambda task: digest[0])
    dump = make_sweep(trials=6).model_dump(mode="json")
    dump["network"] = {"name": "own_networks:build", "base": str(tmp_path)}
    sweep = SweepConfig.model_validate(dump)

    def killed(attempt, spec, nth):
        if len(executor.seen) == 4:
            raise RuntimeError("killed")
        return [Finished(attempt, good(spec))]

    executor = ScriptedExecutor(killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(storage, sweep, make_executor=lambda *_: executor)
    module.write_text("def build():\n    return 2\n" if "code" in changed else module.read_text())
    digest[0] = "after" if "data" in changed else "before"
    refusal = rf"^the {changed} changed since trial 0 began: .*another \[sweep\] name"
    with pytest.raises(InputError, match=refusal):
        scripted(storage, sweep)
    module.write_text("def build():\n    return 1\n")
    digest[0] = "before"
    report, _ = scripted(storage, sweep)
    assert report.counts == {"complete": 6}
    module.write_text("def build():\n    return 2\n")
    assert scripted(storage, sweep)[0].finished, "nothing is left to run"
    store = Store(storage, writing=True)
    longer = sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"trials": 8})})
    with pytest.raises(InputError, match=r"^the code beside the sweep changed"):
        plan_best_again(store, store.study(), 1, 1)
    with pytest.raises(InputError, match=r"^the code beside the sweep changed"):
        begin_study(store, longer, extend=True)
    assert store.study().planned_trials == 6, "nothing was planned that cannot be run"
    store.close()
