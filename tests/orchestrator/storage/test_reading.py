"""What a reader sees: all that is committed, or a line that says why not; and no question makes a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from confined import as_a_reader
from fake_sweep import make_sweep
from scripted import scripted

from mcu.errors import InputError
from orchestrator.storage.address import without_password
from orchestrator.storage.connection import (
    DatabaseGone,
    database_label,
    parse_storage,
    storage_address,
)
from orchestrator.storage.optuna_storage import open_optuna
from orchestrator.storage.store import Store

QUERY = ("query", "--format", "json", "--columns", "number")


def numbers(done: subprocess.CompletedProcess[str]) -> list[int]:
    assert done.returncode == 0, done.stderr
    return [row["number"] for row in json.loads(done.stdout)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    return folder


def test_a_reader_of_a_folder_it_cannot_write_sees_what_a_driver_wrote_last(folder):
    scripted(f"sqlite:///{folder}/mcusweep.db", make_sweep(trials=3))
    driver = Store(f"sqlite:///{folder}/mcusweep.db", writing=True)
    first = driver.trials(driver.study())[0]
    driver.add_trial(driver.study(), 3, first.spec)
    assert (folder / "mcusweep.db-wal").stat().st_size > 0
    assert numbers(as_a_reader(folder, *QUERY)) == [0, 1, 2, 3]
    driver.close()


@pytest.mark.parametrize(("taken", "seen"), [((), True), (("-shm",), False)])
def test_after_a_killed_driver_a_reader_sees_all_or_is_told_that_it_cannot(folder, taken, seen):
    scripted(f"sqlite:///{folder}/mcusweep.db", make_sweep(trials=2))
    code = (
        "import os, sys; from orchestrator.storage.store import Store\n"
        "store = Store('sqlite:///mcusweep.db', writing=True); study = store.study()\n"
        "store.add_trial(study, 2, store.trials(study)[0].spec); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == -9
    for end in taken:
        (folder / f"mcusweep.db{end}").unlink()
    done = as_a_reader(folder, *QUERY)
    if seen:
        assert numbers(done) == [0, 1, 2]
    else:
        assert done.returncode == 1
        assert "mcusweep.db-wal, which cannot be read without writing beside it" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["plain", "a#b", "a?b", "a%41b", "a b&mode=rwc", "{a}", "ü'\""])
def test_any_folder_name_reads_its_own_database_and_makes_no_other(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    storage = f"sqlite:///{folder}/mcusweep.db"
    assert scripted(storage, make_sweep(trials=2))[0].counts == {"complete": 2}
    assert storage_address(parse_storage(storage)) == storage
    assert len(Store(storage).trials(Store(storage).study())) == 2
    assert numbers(as_a_reader(folder, *QUERY)) == [0, 1]
    assert len(open_optuna(parse_storage(storage), writing=False).get_all_studies()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in folder.iterdir()} <= {"mcusweep.db", "mcusweep-artifacts"}


def test_a_reader_cannot_write(store, study, storage):
    with pytest.raises(optuna.exceptions.StorageInternalError):
        open_optuna(parse_storage(storage), writing=False).create_new_study([])


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_is_deleted_or_replaced_is_noticed_at_the_next_write(
    store, study, make_spec, tmp_path, replaced
):
    store.add_trial(study, 0, make_spec())
    file = tmp_path / "sweep.db"
    if replaced:
        copy = tmp_path / "copy.db"
        copy.write_bytes(file.read_bytes())
        os.replace(copy, file)
    else:
        file.unlink()
    with pytest.raises(DatabaseGone, match=r"sweep\.db was deleted or replaced while in use"):
        store.add_trial(study, 1, make_spec(seed=1))
    assert file.exists() is replaced


def test_options_of_an_sqlite_address_are_refused():
    with pytest.raises(InputError, match="an SQLite address takes no options"):
        parse_storage("sqlite:///x.db?timeout=3")


@pytest.mark.parametrize(
    "address",
    [
        "postgres:://u:se/cr@et@h/n",
        "mysql://u:secret@h/n",
        "postgresql+psycopg://u:secret@h:port/n",
        "postgresql+psycopg://u@h/n?password=secret&sslmode=require",
    ],
)
def test_no_password_is_in_any_message(address):
    shown = without_password(address)
    assert "secret" not in shown
    assert "et@" not in shown
    assert "u@h" in shown
    if "sslmode" in address:
        assert "secret" not in database_label(parse_storage(address))
        return
    with pytest.raises(InputError, match=re.escape(shown)):
        parse_storage(address)
