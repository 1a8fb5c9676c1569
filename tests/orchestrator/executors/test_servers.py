"""The same sweep on a PostgreSQL server and a Ray head that are there already; both on the loopback interface."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_sweep import make_sweep, run
from scripted import frame_of, good, scripted
from servers import postgres, postgres_programs, ray_head

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished
from orchestrator.storage.artifacts import artifact_folder, claim_folder
from orchestrator.storage.store import Store

FOLDER = Path(__file__).resolve().parents[1]
SWEEP = """
[sweep]
name = "tiny"
trials = 1
[task]
name = "digits"
[network]
name = "my_network:build"
[budgets]
list = [{flash = "5KB", sram = "5KB"}]
[methods]
names = ["uniform", "l1"]
[training]
epochs = 1
device = "cpu"
[hyperparameters]
learning_rate = 0.1
"""
NETWORK = """
from torch import nn

def build(input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 2 * 2, classes)
    )
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="the client of PostgreSQL is not installed: pip install 'mcusweep[postgres]'")
    with postgres(programs) as address:
        yield address


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Files of trials on a server lie in the current folder."""
    monkeypatch.chdir(tmp_path)


def test_a_study_on_postgresql_runs_is_locked_continues_and_is_queried(address, capsys):
    def script(attempt, spec, nth):
        with pytest.raises(InputError, match="is being run by process"):
            scripted(address, make_sweep(trials=1))
        return [Finished(attempt, good(spec))]

    assert scripted(address, make_sweep(trials=1), script)[0].counts == {"complete": 1}
    longer = make_sweep(trials=4, sampler="tpe")
    longer = longer.model_copy(update={"sweep": longer.sweep.model_copy(update={"name": "t"})})
    assert run(address, longer).counts == {"complete": 4}
    assert scripted(address, longer)[1].seen == []
    frame = frame_of(address)
    assert list(frame["number"]) == [0, 1, 2, 3]
    capsys.readouterr()
    where = "param.quality > 0.0 and state = 'complete' and front(accuracy, flash)"
    assert cli.run(["query", "--storage", address, "--study", "t", "--where", where, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["accuracy"] for row in rows] == [frame["accuracy"].max()]
    assert cli.run(["query", "--storage", address, "--group", "method", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["count"] == 4


def test_files_of_a_study_on_a_server_are_found_from_any_folder(address, tmp_path, monkeypatch):
    store = Store(address, writing=True)
    folder = claim_folder(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert artifact_folder(Store(address)) == claim_folder(store) == folder
    assert not list(Path.cwd().iterdir())
    store.close()


def test_a_server_that_others_use_is_upgraded_only_when_asked(address, capsys):
    Store(address, writing=True).close()
    with Store(address).engine.begin() as connection:
        connection.exec_driver_sql("drop table mcusweep_imported")
        connection.exec_driver_sql("update mcusweep_meta set value = '1' where key = 'schema_version'")
    Store(address).studies()
    with pytest.raises(InputError, match=r"has table layout 1, this version writes 2: run `mcusweep study upgrade`"):
        Store(address, writing=True)
    assert cli.run(["study", "upgrade", "--storage", address]) == 0
    assert capsys.readouterr().out.endswith(": table layout 1 -> 2\n")
    Store(address, writing=True).close()


def test_a_postgresql_server_that_is_gone_is_one_line(tmp_path):
    pytest.importorskip("psycopg", reason="the client of PostgreSQL is not installed")
    from orchestrator.storage.connection import StoreError

    with pytest.raises(StoreError, match=r"cannot use postgresql\+psycopg://u@127\.0\.0\.1:9/n") as caught:
        Store("postgresql+psycopg://u:secret@127.0.0.1:9/n", writing=True)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_the_same_sweep_file_runs_on_postgresql_and_a_cluster_that_is_there(address, tmp_path, capsys, monkeypatch):
    (tmp_path / "sweep.toml").write_text(SWEEP)
    (tmp_path / "my_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    with ray_head(cpus=2) as head:
        command = [sys.executable, "-P", "-m", "orchestrator.cli.main", "launch", "sweep.toml"]
        options = ["--storage", address, "--address", head, "--quiet"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "study tiny: 2 trials done" in done.stderr
    capsys.readouterr()
    assert cli.run(["query", "--storage", address, "--study", "tiny", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["state"], row["feasible"], row["measured"]) for row in rows] == [("complete", True, True)] * 2
