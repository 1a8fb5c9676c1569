"""A sweep whose own modules or data are elsewhere than when its study began goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_sweep import make_sweep

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.executors.attempt import WorkerSetting, run_attempt
from orchestrator.executors.shipment import Shipment
from orchestrator.running import run as running
from orchestrator.running.run import RunSummary, begin_study
from orchestrator.storage.store import Store
from search_spaces import factories
from search_spaces.choices import TaskChoice
from search_spaces.tasks import task_digest

WORKER = """
from orchestrator.spec import TrialResult

def run(spec, artifacts, report):
    return TrialResult(state="complete", accuracy=0.5)
"""


@pytest.fixture
def seen(monkeypatch) -> list[WorkerSetting]:
    """The settings that workers would get: the run ends there."""
    settings: list[WorkerSetting] = []

    def make(setting, *_, **__):
        settings.append(setting)
        raise InputError("far enough")

    monkeypatch.setattr(running, "executor_for", make)
    return settings


def test_resume_takes_the_folder_of_now_for_that_of_then(storage, tmp_path, make_spec, seen, monkeypatch, capsys):
    monkeypatch.setattr(factories, "_ELSEWHERE", {})
    then, now = tmp_path / "then", tmp_path / "now"
    now.mkdir()
    (now / "net_that_moved.py").write_text(WORKER)
    sweep = make_sweep(trials=1)
    sweep = sweep.model_copy(
        update={"network": sweep.network.model_copy(update={"name": "net_that_moved:run", "base": str(then)})}
    )
    store = Store(storage, writing=True)
    begin_study(store, sweep)
    assert cli.run(["resume", "--storage", storage, "--folder", str(now), "--quiet"]) == 2
    assert capsys.readouterr().err == "mcusweep: far enough\n"
    [setting] = seen
    assert (setting.paths, setting.moves) == ((str(then),), {str(then): str(now)})
    assert set(Shipment.of(setting.paths).files) == {"0/net_that_moved.py"}
    there = WorkerSetting("net_that_moved:run", str(tmp_path), setting.paths, moves=setting.moves)
    factories._ELSEWHERE.clear()  # a worker is another process
    assert run_attempt(there, make_spec().model_dump_json(), lambda report: True).accuracy == 0.5
    elsewhere = sweep.model_copy(update={"network": sweep.network.model_copy(update={"base": str(now)})})
    with pytest.raises(InputError, match=r"if its folder was only moved: mcusweep resume --study s --folder DIR"):
        begin_study(store, elsewhere)
    store.close()


def test_the_command_to_go_on_names_the_folder(storage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(factories, "_ELSEWHERE", {})
    store = Store(storage, writing=True)
    begin_study(store, make_sweep(trials=1))
    store.close()
    monkeypatch.setattr(running, "run_study", lambda *_: RunSummary("s", {}, False))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["resume", "--storage", storage, "--folder", ".", "--quiet"]) == 130
    assert capsys.readouterr().err.endswith(f" --folder {Path.cwd()}\n")


def test_resume_takes_the_data_of_now_for_those_of_then(storage, tmp_path, seen, monkeypatch, capsys):
    monkeypatch.setattr(factories, "_ELSEWHERE", {})
    then, now = tmp_path / "then.npz", tmp_path / "now.npz"
    np.savez(then, x=np.zeros((20, 1, 4, 4), np.float32), y=np.arange(20) % 2)
    choice = TaskChoice(name="arrays", path=str(then))
    digest = task_digest(choice)
    sweep = make_sweep(trials=1).model_copy(update={"task": choice})
    store = Store(storage, writing=True)
    begin_study(store, sweep)
    then.rename(now)
    assert cli.run(["resume", "--storage", storage, "--data", str(now), "--quiet"]) == 2
    assert capsys.readouterr().err == "mcusweep: far enough\n"
    assert seen[0].moves == {str(then): str(now)}
    assert task_digest(choice) == digest  # the driver checks it again before trials are added
    moved_sweep = sweep.model_copy(update={"task": choice.model_copy(update={"path": str(now)})})
    with pytest.raises(InputError, match=r"if its data were only moved: mcusweep resume --study s --data PATH"):
        begin_study(store, moved_sweep)
    store.close()


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"name": "fashion-mnist"}, "reads neither task.data nor task.path"),
        ({"name": "own:task", "data": "a", "path": "b"}, "names both task.data and task.path"),
    ],
)
def test_data_of_now_need_one_place_of_then(storage, tmp_path, capsys, task, why):
    store = Store(storage, writing=True)
    begin_study(store, make_sweep(trials=1).model_copy(update={"task": TaskChoice.model_validate(task)}))
    store.close()
    assert cli.run(["resume", "--storage", storage, "--data", str(tmp_path), "--quiet"]) == 2
    assert capsys.readouterr().err.endswith(f"task {task['name']!r} {why}: give no --data\n")
