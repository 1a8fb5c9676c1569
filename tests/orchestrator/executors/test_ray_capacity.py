"""Trials that no node can hold are refused or said, and never waited for in silence."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fake_sweep import make_sweep, run
from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.experimental.internal_kv import _internal_kv_get
from scripted import ScriptedExecutor, frame_of, good
from servers import ray_head

from mcu.errors import InputError
from orchestrator.executors.attempt import WorkerSetting
from orchestrator.executors.base import Finished, Started
from orchestrator.executors.node_record import NodeRecord
from orchestrator.executors.ray_capacity import Need, capacity, shortage
from orchestrator.running.interrupts import Interrupts, Wish
from orchestrator.running.watcher import Watcher

SETTING = WorkerSetting("fake_worker:run_trial", "artifacts")


@pytest.mark.parametrize(
    ("need", "nodes", "held"),
    [
        (Need(1, 0.0), [{"CPU": 4.0}, {}], 4),
        (Need(2, 0.0), [{"CPU": 1.0}, {"CPU": 1.0}], 0),
        (Need(2, 0.0), [{"CPU": 3.0}, {"CPU": 5.0}], 3),
        (Need(1, 1.0), [{"CPU": 8.0}], 0),
        (Need(1, 0.5), [{"CPU": 8.0, "GPU": 2.0}], 4),
        (Need(1, 0.4), [{"CPU": 8.0, "GPU": 1.0}], 2),
        (Need(1, 2.0), [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 3.0}], 1),
        (Need(1, 1 / 3), [{"CPU": 8.0, "GPU": 1.0}], 3),
    ],
)
def test_room_is_counted_node_by_node_and_gpu_by_gpu(need, nodes, held):
    assert capacity(need, nodes) == held
    assert (shortage(need, nodes) is None) == (held > 0)


def test_the_line_says_what_is_needed_and_what_there_is():
    assert shortage(Need(2, 1.0), [{"CPU": 1.0}, {}]) == (
        "no node of the Ray cluster can hold a trial, which needs 2 CPUs and 1 GPU; "
        "nodes have 1 CPU, 0 GPUs; 0 CPUs, 0 GPUs"
    )


def test_a_trial_goes_back_to_the_node_that_failed_it_where_no_other_can_hold_it():
    """A head without CPUs is no other: the trial would wait there for ever."""
    from orchestrator.executors.ray import RayExecutor

    executor = object.__new__(RayExecutor)
    executor._record, executor._nodes = NodeRecord(), {"head": {"CPU": 0.0}, "a": {"CPU": 1.0}}
    executor._record.failed("a", "trial")
    assert executor._avoided("trial", Need(1, 0.0)) == set()
    executor._nodes["b"] = {"CPU": 1.0}
    assert executor._avoided("trial", Need(1, 0.0)) == {"a"}
    executor._record.failed("a", "other")
    executor._record.failed("a", "third")
    assert executor._usable(Need(1, 0.0)) == [{"CPU": 0.0}, {"CPU": 1.0}]
    del executor._nodes["b"]
    assert capacity(Need(1, 0.0), executor._usable(Need(1, 0.0))) == 1


@pytest.mark.slow
def test_what_no_node_can_hold_is_refused_in_one_line_and_what_finds_no_room_is_told_to_the_autoscaler():
    from orchestrator.executors.ray import RayExecutor

    with pytest.raises(InputError, match=r"gpus_per_trial = 1.0: no node .* 1 CPU and 1 GPU; nodes have 1 CPU, 0 "):
        RayExecutor(SETTING, 1, use_gpu=True, gpus_per_trial=1.0)
    for cpus, wanted, said in ((1, 2, "2 CPUs; nodes have 1 CPU"), (0, 1, "1 CPU; nodes have 0 CPUs")):
        with ray_head(cpus) as address:
            with pytest.raises(InputError, match=said) as caught:
                RayExecutor(SETTING, None, cpus_per_trial=wanted, address=address)
            assert len(str(caught.value).splitlines()) == 1
            if cpus:
                executor = RayExecutor(SETTING, None, address=address)
                executor.want(5)
                assert (executor.capacity, requested()) == (1, [{"CPU": 1.0}] * 5)
                executor._need.request(0)
                assert requested() == []
                executor.shutdown()
                assert executor._requested == 0


def requested() -> list[dict[str, float]]:
    """What the cluster's autoscaler is asked to have room for, where it reads that."""
    asked: list[dict[str, float]] = json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or "[]")
    return asked


class Waiting(ScriptedExecutor):
    """Takes attempts of which the first ``begins`` begin; the others wait for a node."""

    def __init__(self, begins: int) -> None:
        super().__init__(lambda attempt, spec, nth: [Started(attempt, "h", 1)] if len(self.seen) <= begins else [])
        self.withdrawn: list[str] = []

    def withdraw(self, attempt: str) -> None:
        self.withdrawn.append(attempt)

    def obstacle(self) -> str | None:
        return "no node can hold a trial" if self.clock > 1 else None


class Impatient(Watcher):
    """Interrupts once it is told that nothing can begin."""

    def __init__(self, interrupts: Interrupts, executor: Waiting) -> None:
        self.interrupts, self.executor, self.lines, self.running = interrupts, executor, [], []

    def note(self, text: str) -> None:
        self.lines.append(text)
        if "waiting" in text:
            self.interrupts.wish = Wish.FINISH_RUNNING
        if "finishing" in text:
            self.executor.queue.extend(Finished(attempt, good(self.executor.seen[0])) for attempt in self.running[:1])


def run_on(executor, storage, interrupts, watcher):
    made = make_sweep(trials=5)
    return run(storage, made, make_executor=lambda *_: executor, interrupts=interrupts, watcher=watcher)


def test_one_interrupt_ends_a_sweep_in_which_nothing_runs_and_that_is_said(storage):
    interrupts, executor = Interrupts(), Waiting(begins=0)
    watcher = Impatient(interrupts, executor)
    start = time.monotonic()
    report = run(
        storage, make_sweep(trials=5), make_executor=lambda *_: executor, interrupts=interrupts, watcher=watcher
    )
    assert time.monotonic() - start < 10
    assert not report.finished
    assert report.counts == {"planned": 2}
    assert len(executor.withdrawn) == 2
    assert watcher.lines[:2] == [
        "no node can hold a trial; waiting for one",
        "interrupted: finishing 0 running trials; Ctrl-C again stops now",
    ]
    assert list(frame_of(storage)["attempts"]) == [1, 1]


def test_after_one_interrupt_what_runs_is_finished_and_what_waits_is_taken_back(storage):
    interrupts, executor = Interrupts(), Waiting(begins=1)
    watcher = Impatient(interrupts, executor)
    begun: list[str] = []
    submit = executor.submit
    executor.submit = lambda attempt, spec: (begun.append(attempt), submit(attempt, spec))[1]
    watcher.running = begun
    report = run(
        storage, make_sweep(trials=5), make_executor=lambda *_: executor, interrupts=interrupts, watcher=watcher
    )
    assert report.counts == {"complete": 1, "planned": 1}
    assert executor.withdrawn == begun[1:]


def test_ray_gets_a_home_folder_where_none_is_known(monkeypatch):
    import pwd

    from orchestrator.executors.ray_cluster import _home_for_ray

    def unknown(*_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("HOME", "/home/me")
    assert _home_for_ray() is None
    monkeypatch.delenv("HOME")
    with _home_for_ray() as folder:
        assert os.environ["HOME"] == folder
        assert Path(folder).is_dir()
