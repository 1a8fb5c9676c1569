"""Hosts that share nothing but the network: files, code and results travel, nodes come, go and are cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hosts import Host, hosts, join, reason_against

from orchestrator.executors.node_probe import difference
from orchestrator.executors.node_record import NodeRecord
from orchestrator.storage.store import Store

DRIVER = """
import sys
from dataclasses import replace

from fake_sweep import OPTIONS, make_sweep, run
from orchestrator.executors import ray
from orchestrator.running.watcher import Watcher
from search_spaces.sweep import SweepConfig

class Told(Watcher):
    def note(self, text):
        print(text, flush=True)

ray.LOST_SECONDS = 6.0
sweep = make_sweep(methods=("heir",), trials=12, reports=2, sleep=0.5).model_dump(mode="json")
budgets = [{"flash": flash} for flash in (60_000, 50_000, 40_000, 30_000)]
sweep |= {"budgets": {"list": budgets}, "lineage": {"enabled": True}}
options = replace(OPTIONS, executor="ray", workers=None, address=sys.argv[1]) if sys.argv[1:] else OPTIONS
print(run("sqlite:///s.db", SweepConfig.model_validate(sweep), options, watcher=Told()))
"""


@pytest.fixture
def four(tmp_path) -> Iterator[list[Host]]:
    reason = reason_against()
    if reason is not None:
        pytest.skip(f"NOT TESTED on two hosts: {reason}")
    with hosts([1, 0, 0, 0], tmp_path) as there:
        yield there


def drive(host: Host, address: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", DRIVER, f"{address}:6379"]
    return host.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until(condition, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.2)


def attempts(file: Path) -> list[dict]:
    try:
        store = Store(f"sqlite:///{file}")
        return store.attempts(store.study())
    except Exception:  # not there yet
        return []


def test_a_node_of_other_packages_is_told_by_name_and_builds_for_other_hardware_are_equal():
    here = {"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.1.0", "tflite-micro": "0.1"}
    assert difference(here, here | {"python": "3.11.9", "torch": "2.13.0+cu130"}) is None
    assert difference(here, here | {"torch": "2.12.1"}) == "torch 2.12.1, the driver has 2.13.0"
    assert "python 3.12, the driver has 3.11" in str(difference(here, here | {"python": "3.12.0"}))


def test_nodes_that_fail_trials_are_avoided_so_long_as_there_are_others():
    record = NodeRecord()
    assert not record.failed("a", "trial")
    assert record.avoided("trial", ["a", "b"]) == {"a"}
    assert record.avoided("other", ["a", "b"]) == set()
    assert record.avoided("trial", ["a"]) == set()
    assert [record.failed("a", "other"), record.failed("a", "third")] == [False, True]
    assert record.avoided("fourth", ["a", "b"]) == {"a"}
    record.refuse("b", "it is another machine")
    assert record.avoided("fourth", ["a", "b"]) == {"b"}
    record.succeeded("a")
    assert record.avoided("fourth", ["a", "b", "c"]) == {"b"}


@pytest.mark.slow
def test_a_sweep_on_hosts_that_share_nothing_outlives_a_cut_cable_and_a_late_node(four):
    head, other, poor, sick = four
    interpreter = distribution("tflite-micro")
    poor.hide(Path(str(interpreter.locate_file(f"tflite_micro-{interpreter.version}.dist-info"))))
    join(poor, head, 1)
    subprocess.run(sick.command("touch", f"/tmp/mcusweep-{os.getuid()}"), check=True)  # where its cache would be
    join(sick, head, 1)
    driver = drive(head, head.address)
    file = head.work / "s.db"
    until(lambda: len(attempts(file)) >= 2)
    join(other, head, 1)  # in the middle of the sweep
    until(lambda: any(row["worker_host"] == other.name and row["ended_at"] for row in attempts(file)))
    until(lambda: any(row["worker_host"] == other.name and not row["ended_at"] for row in attempts(file)))
    other.cable(False)
    cut = time.monotonic()
    said, _ = driver.communicate(timeout=150)
    assert "counts={'complete': 13}" in said, said
    assert "host-3 gets no trials: tflite-micro is not there, the driver has" in said
    assert "host-4 failed three trials in a row and gets no more: FileExistsError" in said
    rows = attempts(file)
    assert [row["reason"] for row in rows if row["worker_host"] == sick.name] == ["environment"] * 3
    assert {row["worker_host"] for row in rows} == {head.name, other.name, sick.name}
    lost = [row for row in rows if row["reason"] == "executor-lost"]
    assert lost, said
    assert {row["worker_host"] for row in lost} == {other.name}
    assert time.monotonic() - cut < 100
    store = Store(f"sqlite:///{file}")
    folder = head.work / "s-artifacts"
    for trial in store.trials(store.study()):
        [note] = trial.result.artifacts.values()
        assert (folder / note.path).stat().st_size == note.bytes
    alone = other.start(sys.executable, "-c", DRIVER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "counts={'complete': 13}" in alone.communicate(timeout=100)[0]
    assert results(Store(f"sqlite:///{other.work}/s.db")) == results(store)


def results(store: Store) -> str:
    return json.dumps(
        [(trial.number, trial.spec.hash(), trial.result.accuracy) for trial in store.trials(store.study())]
    )
