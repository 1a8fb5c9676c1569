"""Hosts that share nothing but the network: files, code and results travel, nodes come, go and are cut off."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from hosts import Host, hosts, join, reason_against

from mcu.errors import InputError
from orchestrator.executors import ray_cluster
from orchestrator.executors.base import ExecutorError
from orchestrator.executors.node_probe import difference, failure
from orchestrator.executors.node_record import NodeRecord
from orchestrator.executors.shipment import MOST_BYTES, Shipment, unpacked
from orchestrator.storage.store import Store
from orchestrator.worker.exchange import Luggage, Parcel, accept, provisions
from orchestrator.worker.identity import shared_parents
from pruning.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint

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

ray.LOST_SECONDS = 10.0
sweep = make_sweep(methods=("heir",), trials=12, tickets="/tmp/work/tickets").model_dump(mode="json")
budgets = [{"flash": flash} for flash in (60_000, 50_000)]
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


def until(condition: Callable[[], bool], log: Path, seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it does not happen; the driver said: {log.read_text()}"
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


def test_a_node_that_cannot_install_requirements_is_told_what_it_needs():
    said = 'pip.py", line 132\n    import virtualenv  # noqa: F401 ensure virtualenv exists.\nModuleNotFound'
    assert failure(said).endswith("needs virtualenv there: pip install 'mcusweep[cluster]'")
    assert failure("it is\n  away") == "it is away"


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


def test_what_goes_to_the_nodes_is_python_and_what_the_sweep_names(tmp_path):
    for name in (
        "net.py",
        "lib/part.py",
        ".env",
        "data.bin",
        "labels/a.csv",
        ".venv/x.py",
        "env/pyvenv.cfg",
        "env/y.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(Shipment.of([str(tmp_path)]).files) == {"0/net.py", "0/lib/part.py"}
    shipment = Shipment.of([str(tmp_path)], ["labels"])
    assert set(shipment.files) == {"0/net.py", "0/lib/part.py", "0/labels/a.csv"}
    with shipment.pack() as folder:
        assert Path(unpacked(shipment.bases, Path(folder))[str(tmp_path)], "labels", "a.csv").read_text() == "x"
    for name, said in (("../x", "lies outside"), ("gone", "there is no such file")):
        with pytest.raises(InputError, match=said):
            Shipment.of([str(tmp_path)], [name])
    with (tmp_path / "data.bin").open("wb") as large:
        large.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match=r"allowed are 200MB; the largest are \S+data\.bin"):
        Shipment.of([str(tmp_path)], ["data.bin"])


def test_a_file_comes_whole_from_where_its_trial_may_write_and_nowhere_else(tmp_path, make_spec):
    spec = make_spec().model_copy(update={"data": "d"})
    here, there = tmp_path / "driver", tmp_path / "worker"
    luggage = Luggage(there, spec, {}, lambda path: b"", time.monotonic)
    own = there / spec.hash()
    write_checkpoint(own, {"step": 1, "weights": torch.ones(3)})
    write_checkpoint(there / str(shared_parents(spec)) / "p" / "trained", {"step": 2})
    parcels = list(luggage.changes(all_now=True))
    assert [Path(parcel.path).suffix for parcel in parcels] == [".safetensors", ".json"] * 2  # a manifest comes last
    for parcel in parcels:
        accept(here, spec, parcel)
    assert read_checkpoint(here / spec.hash())["step"] == 1
    remove_checkpoint(own)
    for parcel in luggage.changes(all_now=True):
        accept(here, spec, parcel)
    assert not [path for path in (here / spec.hash()).iterdir() if path.is_file()]
    assert sorted(provisions(here, spec)) == sorted(parcel.path for parcel in parcels[2:])
    data = parcels[2].data
    for wrong in (
        Parcel("../x", parcels[2].sha256, data),
        Parcel("0" * 64 + "/model.tflite", parcels[2].sha256, data),
        Parcel(f"{spec.hash()}/model.tflite", parcels[2].sha256, b"other"),
    ):
        with pytest.raises(InputError):
            accept(here, spec, wrong)
    sent = {path: hashlib.sha256((here / path).read_bytes()).hexdigest() for path in provisions(here, spec)}
    write_checkpoint(there / str(shared_parents(spec)) / "p", {"step": 3})
    changes = luggage.changes(all_now=True)
    next(changes)
    remove_checkpoint(there / str(shared_parents(spec)) / "p")  # by another job of this worker
    assert list(changes) == []
    third = tmp_path / "third"
    Luggage(third, spec, sent, lambda path: (here / path).read_bytes(), time.monotonic)
    assert read_checkpoint(third / str(shared_parents(spec)) / "p" / "trained") == {"step": 2}


def test_a_head_that_restarts_is_waited_for_and_a_client_address_refused(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_AGAIN_SECONDS", 0.1)
    told: list[str] = []
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        threading.Timer(0.5, head.listen).start()
        ray_cluster._await(address, 30.0, told.append)
    assert "no Ray cluster answers there" in told[0]
    with pytest.raises(ExecutorError, match=r"must run on a node of the cluster.*ray job submit"):
        ray_cluster._await("ray://127.0.0.1:10001", 0.0, told.append)


@pytest.mark.slow
def test_a_sweep_on_hosts_that_share_nothing_outlives_a_cut_cable_and_a_late_node(four):
    head, other, poor, sick = four
    interpreter = distribution("tflite-micro")
    poor.hide(Path(str(interpreter.locate_file(f"tflite_micro-{interpreter.version}.dist-info"))))
    subprocess.run(sick.command("touch", f"/tmp/mcusweep-{os.getuid()}"), check=True)  # where its cache would be
    for host in (head, other):
        host.hold()
    join(poor, head, 1)
    join(sick, head, 3)  # so that it fails three at once, while the head is held at one
    file, log = head.work / "s.db", head.work / "driver.log"
    with log.open("w") as out:
        command = [sys.executable, "-c", DRIVER, f"{head.address}:6379"]
        driver = head.start(*command, stdout=out, stderr=subprocess.STDOUT)
    until(lambda: "host-3 gets no trials: tflite-micro is not there, the driver has" in log.read_text(), log)
    until(lambda: "host-4 failed three trials in a row and gets no more: FileExistsError" in log.read_text(), log)
    join(other, head, 1)  # in the middle of the sweep
    other.grant(1)
    until(
        lambda: {bool(row["ended_at"]) for row in attempts(file) if row["worker_host"] == other.name} == {True, False},
        log,
    )
    other.cable(False)
    head.release()
    assert driver.wait(600) == 0
    said, rows = log.read_text(), attempts(file)
    assert "counts={'complete': 13}" in said, said
    assert {row["reason"] for row in rows if row["worker_host"] == sick.name} == {"environment"}
    assert {row["worker_host"] for row in rows} - {None} == {head.name, other.name, sick.name}
    assert {row["reason"] for row in rows if row["worker_host"] == other.name} == {"complete", "executor-lost"}, said
    store = Store(f"sqlite:///{file}")
    folder = head.work / "s-artifacts"
    for trial in store.trials(store.study()):
        [note] = trial.result.artifacts.values()
        assert (folder / note.path).stat().st_size == note.bytes
    other.release()
    alone = other.start(sys.executable, "-c", DRIVER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "counts={'complete': 13}" in alone.communicate(timeout=300)[0]
    assert results(Store(f"sqlite:///{other.work}/s.db")) == results(store)


def results(store: Store) -> str:
    return json.dumps(
        [(trial.number, trial.spec.hash(), trial.result.accuracy) for trial in store.trials(store.study())]
    )
