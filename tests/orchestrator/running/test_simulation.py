"""The real driver, store, sampler and stop rule on the simulated executor's clock."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from fake_sweep import run

from mcu.errors import InputError
from orchestrator.executors.base import Finished, Lost, Reported, Started
from orchestrator.executors.simulated import SimulatedExecutor, synthetic_trial
from orchestrator.running.run import RunOptions, simulated, stored_sweep
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from search_spaces.sections import LineageSection
from search_spaces.sweep import SweepConfig


def sweep_of(trials: int, stopping: bool = False, sampler: str = "random") -> SweepConfig:
    return simulated(
        SweepConfig.model_validate(
            {
                "sweep": {"name": "s", "trials": trials},
                "task": {"name": "mnist-5k"},
                "network": {"name": "resnet8"},
                "budgets": {"list": [{"flash": 65536}, {"flash": 32768, "sram": 32768}]},
                "methods": {"names": ["differentiable"]},
                "sampler": {"name": sampler},
                "stopping": {"enabled": stopping},
            }
        )
    )


def simulate(storage: str, sweep: SweepConfig, **more):
    executor = SimulatedExecutor(seed=0, **more)
    report = run(storage, sweep, RunOptions(), make_executor=lambda *_: executor)
    store = Store(storage)
    frame = trials_frame(store, store.study())
    attempts = store.attempts(store.study())
    store.close()
    return report, executor, frame, attempts


def test_the_clock_jumps_and_events_come_in_order(make_spec):
    executor = SimulatedExecutor(seed=0, workers=1)
    executor.submit("a", make_spec())
    start, events = time.monotonic(), []
    while not any(isinstance(event, Finished) for event in events):
        events += executor.poll(1.0)
    assert time.monotonic() - start < executor.now() / 10
    assert isinstance(events[0], Started)
    assert [event.report.step for event in events if isinstance(event, Reported)] == list(range(8))
    assert executor.now() == pytest.approx(synthetic_trial(make_spec()).result.duration_s)
    assert executor.utilisation == pytest.approx(1.0)


def test_an_attempt_can_be_stopped(make_spec):
    executor = SimulatedExecutor(seed=0, workers=1)
    executor.submit("a", make_spec())
    executor.poll(1.0)
    executor.stop("a")
    [reported, finished] = executor.poll(1.0)
    assert isinstance(reported, Reported)
    assert finished.result.state == "stopped"


def test_the_same_seed_simulates_the_same_deaths(make_spec):
    def ends(seed: int) -> list[bool]:
        executor = SimulatedExecutor(seed=seed, workers=40, death_rate=0.3)
        for number in range(40):
            executor.submit(f"{number:02}", make_spec(seed=number))
        events = []
        while len([event for event in events if isinstance(event, Finished | Lost)]) < 40:
            events += executor.poll(1.0)
        return [isinstance(e, Lost) for e in sorted(events, key=lambda e: e.attempt) if isinstance(e, Finished | Lost)]

    assert ends(0) == ends(0) != ends(1)
    assert 4 <= sum(ends(0)) <= 20


def test_many_workers_that_die_finish_every_trial(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    report, executor, frame, attempts = simulate(storage, sweep_of(80), workers=40, death_rate=0.1)
    assert sum(report.counts.values()) == 80
    assert report.counts["complete"] >= 79
    reasons = Counter(attempt["reason"] for attempt in attempts)
    assert reasons["worker-died"] >= 3
    assert executor.utilisation > 0.3
    assert not frame["measured"].any()


def test_early_stopping_saves_time_and_keeps_the_best(tmp_path):
    times, bests = {}, {}
    for stopping in (False, True):
        storage = f"sqlite:///{tmp_path}/{stopping}.db"
        report, executor, frame, _ = simulate(storage, sweep_of(40, stopping), workers=4)
        times[stopping] = executor.now()
        done = frame[frame["state"] == "complete"]
        bests[stopping] = done.groupby("budget_flash")["val_accuracy"].max()
    assert report.counts["stopped"] > 10
    assert times[True] < 0.75 * times[False]
    assert ((bests[False] - bests[True]) < 0.02).all()


def test_simulated_studies_keep_to_themselves(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    _, _, frame, _ = simulate(storage, sweep_of(4), workers=2)
    store = Store(storage)
    study = store.study()
    assert study.name == "s-simulated"
    assert study.simulated
    assert store.equal_result(frame.loc[0, "spec_hash"]) is None
    with pytest.raises(InputError, match="cannot be mixed"):
        run(storage, stored_sweep(study), RunOptions(executor="local"))


def test_a_lineage_with_dying_workers_is_run_to_its_end(storage):
    sweep = sweep_of(trials=40)
    sweep = sweep.model_copy(update={"lineage": LineageSection(enabled=True)})
    report, _, frame, _ = simulate(storage, sweep, workers=30, death_rate=0.2)
    assert report.finished
    assert set(frame["state"]) <= {"complete", "failed"}
    heirs = frame[frame["ancestor"].notna()].set_index("number")
    assert len(heirs) == 40
    ended = frame.set_index("number")["finished_at"]
    for number, row in heirs.iterrows():
        assert ended[row["ancestor"]] <= row["started_at"], number
