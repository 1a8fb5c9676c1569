"""A database and sweep file of an earlier commit go on working; tests/data/README.md says how they were made."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from orchestrator.cli import main as cli
from orchestrator.storage import schema
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from search_spaces.sweep import load_sweep

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parents[2] / "data" / "f87c954.tar.xz"
STATES = {"complete": 10, "failed": 3, "infeasible": 2, "stopped": 2, "running": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path / "f87c954")
    return Path.cwd()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.run(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_every_question_is_answered(folder, capsys):
    status = json.loads(told(capsys, "status", "--format", "json"))
    assert (status["done"], status["planned"], status["states"]) == (17, 20, STATES)
    rows = json.loads(told(capsys, "query", "--format", "json", "--where", "feasible and param.weight_decay = 0.0001"))
    assert rows
    assert all(row["feasible"] and row["param.weight_decay"] == 1e-4 for row in rows)
    assert {row["metric"] for row in rows} == {"accuracy"}
    best = json.loads(told(capsys, "best", "--flash", "5KB", "--format", "json"))["trial"]
    shown = json.loads(told(capsys, "show", "best", "--flash", "5KB", "--format", "json"))
    assert (shown["number"], shown["flash"]) == (best["number"], best["flash"])
    assert shown["widths"]
    assert shown["memory"]
    assert shown["trajectory"]
    assert shown["scores"]["test"]["accuracy"] == best["accuracy"]
    told(capsys, "export", "best", "--flash", "5KB", "--output", "out")
    assert (folder / "out" / "model.tflite").stat().st_size == best["flash"]
    assert (folder / "out" / "firmware").is_dir()
    assert Path(told(capsys, "report", "--output", "page").strip()).is_file()
    told(capsys, "study", "export", "first", "--output", "first.zip")
    told(capsys, "study", "import", "first.zip", "--name", "again")


def test_the_frame_has_every_trial_and_its_specifications_keep_their_hashes(folder):
    store = Store("sqlite:///mcusweep.db")
    study = store.study()
    frame = trials_frame(store, study)
    assert frame["state"].value_counts().to_dict() == STATES
    assert [trial.spec.hash() for trial in store.trials(study)] == frame["spec_hash"].tolist()


def contents(file: str) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(file) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        return {table: connection.execute(f'select * from "{table}" order by 1').fetchall() for table in tables}


def test_an_upgrade_keeps_every_row_and_a_copy_and_older_programs_refuse_it(folder, capsys, monkeypatch):
    before, rows = contents("mcusweep.db"), told(capsys, "query", "--format", "json")
    assert ("schema_version", "1") in before["mcusweep_meta"]
    kept = folder.resolve() / "mcusweep.db.layout-1"
    assert (
        told(capsys, "study", "upgrade")
        == f"mcusweep.db: table layout 1 -> 2; the file of before is kept as {kept.name}\n"
    )
    assert told(capsys, "study", "upgrade") == "mcusweep.db is up to date\n"
    after = contents("mcusweep.db")
    assert ("schema_version", "2") in after.pop("mcusweep_meta")
    assert after.pop("mcusweep_imported") == []
    assert after == {table: rows for table, rows in before.items() if table != "mcusweep_meta"}
    assert contents(kept.name) == before
    assert told(capsys, "query", "--format", "json") == rows
    monkeypatch.setattr("orchestrator.storage.schema.SCHEMA_VERSION", 1)
    for words in (["query"], ["resume"], ["study", "upgrade"]):
        assert cli.run(words) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "mcusweep: mcusweep.db was written with table layout 2; this version of mcusweep reads la"
        )
    assert ("schema_version", "2") in contents("mcusweep.db")["mcusweep_meta"]


def test_an_upgrade_that_fails_changes_nothing(folder, monkeypatch):
    before = contents("mcusweep.db")

    def broken(connection):
        connection.exec_driver_sql("create table half (x integer)")
        raise OSError("killed here")

    monkeypatch.setitem(schema.STEPS, 1, broken)
    with pytest.raises(OSError, match="killed here"):
        Store("sqlite:///mcusweep.db", writing=True)
    assert contents("mcusweep.db") == before


def test_resume_and_extend_run_what_is_left_and_nothing_twice(folder, capsys):
    assert json.loads(load_sweep(folder / "sweep.toml").canonical())["sweep"]["name"] == "first"
    before = _finished()
    assert cli.run(["resume", "--workers", "1", "--quiet"]) in (0, 1)
    longer = ["--extend", "--set", "sweep.trials=10"]
    assert cli.run(["launch", "sweep.toml", *longer, "--workers", "1", "--quiet"]) in (0, 1)
    after = _finished()
    assert len(after) == 22
    assert before.items() <= after.items()


def _finished() -> dict[int, tuple[object, ...]]:
    with sqlite3.connect("mcusweep.db") as connection:
        rows = connection.execute(
            "select number, state, spec_hash, val_accuracy, attempts, finished_at from mcusweep_trials "
            "where finished_at is not null"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}
