"""However a driver ends, its processes are gone ten seconds later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_sweep
import pytest
from fake_sweep import make_sweep, run
from scripted import frame_of

from mcu.errors import InputError
from orchestrator.processes import LocalProcess, descendants
from orchestrator.running.run import begin_study
from orchestrator.storage.store import Store

SCRIPT = Path(fake_sweep.__file__)
RAY_DRIVER = """
import sys
from orchestrator.executors.attempt import WorkerSetting
from orchestrator.executors.base import ExecutorLost
from orchestrator.executors.ray import RayExecutor
from orchestrator.spec import TrialSpec
folder, fakes, spec = sys.argv[1:]
executor = RayExecutor(WorkerSetting("fake_worker:run_trial", folder, (fakes,)), 1)
executor.submit("long", TrialSpec.model_validate_json(spec))
try:
    with executor:
        while True:
            for event in executor.poll(0.5):
                print(type(event).__name__, flush=True)
except ExecutorLost as error:
    print(f"lost: {error}", flush=True)
"""


def left_after(processes: list[LocalProcess], seconds: float = 10.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.alive for process in processes):
        time.sleep(0.1)
    return [f"{process.pid} {process.name}" for process in processes if process.alive]


def begin(storage: str, **wishes: float) -> subprocess.Popen[bytes]:
    store = Store(storage, writing=True)
    study = begin_study(store, make_sweep(trials=20, **wishes))
    driver = subprocess.Popen([sys.executable, str(SCRIPT), storage], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while sum(row["worker_pid"] is not None for row in store.attempts(study)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    store.close()
    return driver


def test_one_interrupt_finishes_what_runs_and_leaves_no_process(storage):
    with begin(storage, reports=4, sleep=0.2) as driver:
        mine = descendants(driver.pid)
        assert len(mine) >= 2
        driver.send_signal(signal.SIGINT)
        driver.wait(30)
        assert left_after(mine) == []
    states = frame_of(storage)["state"].value_counts().to_dict()
    assert states.pop("complete") >= 2
    assert states == {}


@pytest.mark.parametrize("kill", [False, True])
def test_two_interrupts_or_a_kill_stop_at_once_and_leave_no_process(storage, kill):
    with begin(storage, reports=1000, sleep=0.1) as driver:
        mine = descendants(driver.pid)
        begun = time.monotonic()
        if kill:
            driver.kill()
        else:
            while driver.poll() is None:  # two that come before the first is seen are one
                driver.send_signal(signal.SIGINT)
                time.sleep(0.3)
        driver.wait(30)
        assert left_after(mine) == []
        assert time.monotonic() - begun < 30
    assert "complete" not in set(frame_of(storage)["state"])


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "gcs_server", "raylet"])
def test_nothing_of_ray_outlives_a_killed_driver_or_a_lost_head(tmp_path, make_spec, victim):
    spec = make_spec(reports=10_000, sleep=0.1).model_dump_json()
    command = [sys.executable, "-c", RAY_DRIVER, str(tmp_path), str(SCRIPT.parent), spec]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "Started\n"
        time.sleep(1.5)
        mine = descendants(driver.pid)
        assert {"gcs_server", "raylet"} <= {process.name for process in mine}
        if victim == "driver":
            driver.kill()
        else:
            next(process for process in mine if process.name == victim).kill()
            assert driver.wait(60) == 0
            assert "lost: Ray is gone: one of its processes on this machine" in driver.stdout.read()
        assert left_after(mine) == []


def test_a_folder_that_cannot_be_written_is_refused_before_any_trial(storage, tmp_path):
    (tmp_path / "sweep-artifacts").write_text("in the way")
    with pytest.raises(
        InputError, match=r"cannot write into .*sweep-artifacts, where the trials' files go: "
    ) as caught:
        run(storage, make_sweep(trials=1))
    assert len(str(caught.value).splitlines()) == 1
    assert len(frame_of(storage)) == 0
    assert os.listdir(tmp_path)
