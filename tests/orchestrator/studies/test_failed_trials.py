"""Trials that failed: the run says so, and they can be tried again."""

from __future__ import annotations

import optuna
import pytest
from fake_sweep import make_sweep
from scripted import frame_of, good, scripted

from mcu.errors import InputError
from orchestrator.executors.base import Finished, LossReason, Lost
from orchestrator.spec import TrialResult
from orchestrator.storage.store import Store
from orchestrator.studies.retry import plan_failed_again


def failing(attempt, spec, nth):
    if spec.budget.sram:
        return [Lost(attempt, LossReason.WORKER_DIED, "signal 9")]
    return [Finished(attempt, TrialResult(state="failed", reason="OSError: disk full"))]


def once_more(attempt, spec, nth):
    return failing(attempt, spec, nth) if nth == 1 and spec.budget.sram else [Finished(attempt, good(spec))]


def again(storage: str, where: str = "") -> int:
    store = Store(storage, writing=True)
    try:
        return plan_failed_again(store, store.study(), where)
    finally:
        store.close()


def test_failed_trials_run_again_with_their_specification_and_fresh_attempts(storage):
    sweep = make_sweep(trials=4)
    assert scripted(storage, sweep, failing)[0].failed == 4
    before = frame_of(storage)
    assert again(storage) == 4
    assert set(frame_of(storage)["state"]) == {"planned"}
    assert scripted(storage, sweep, once_more)[0].counts == {"complete": 4}
    after = frame_of(storage)
    assert list(after["spec_hash"]) == list(before["spec_hash"])
    assert after["reason"].isna().all()
    assert len(Store(storage).attempts(Store(storage).study())) == sum(after["attempts"])
    study = optuna.load_study(study_name="s", storage=storage)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


def test_a_filter_says_which_failed_trials_are_tried_again(storage, monkeypatch):
    sweep = make_sweep(trials=4)
    scripted(storage, sweep, failing)
    assert again(storage, "reason like '%disk%' or number = 99") == 2
    report, executor = scripted(storage, sweep)
    assert report.counts == {"complete": 2, "failed": 2}
    assert len(executor.seen) == 2
    monkeypatch.setattr("orchestrator.planning.plan.task_digest", lambda task: "other")
    with pytest.raises(InputError, match="data of task 'mnist-5k' changed since trial 0 began"):
        again(storage)
    assert list(frame_of(storage)["state"]).count("failed") == 2, "their reasons are kept"
