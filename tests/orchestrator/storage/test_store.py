from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import event, text

from mcu.errors import InputError
from mcu.terms import TrialState
from orchestrator.spec import EpochReport
from orchestrator.storage.connection import StoreError
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store


def test_a_finished_trial_is_read_back_as_it_was_written(store, study, make_spec, result):
    spec = make_spec(learning_rate=0.1)
    trial = store.add_trial(study, 0, spec)
    attempt = store.begin_attempt(trial)
    store.note_worker(attempt, "host", 7)
    store.add_report(
        attempt, EpochReport(step=1, epochs_done=0.5, val_accuracy=0.4, flash=1, sram=2, macs=3, phase="prune")
    )
    assert store.finish_attempt(attempt, result)

    [stored] = store.trials(study)
    assert stored.spec == spec
    assert stored.state is TrialState.COMPLETE
    assert stored.attempts == 1
    assert stored.result == result.model_copy(update={"trajectory": []})
    [noted] = store.attempts(study)
    assert (noted["worker_host"], noted["worker_pid"], noted["reason"]) == ("host", 7, "complete")
    assert store.epoch_reports(study)[0]["phase"] == "prune"
    assert store.integrity() == "ok"


def test_the_result_of_an_attempt_that_was_given_up_is_refused(store, study, make_spec, result):
    trial = store.add_trial(study, 0, make_spec())
    old = store.begin_attempt(trial)
    assert store.end_attempt(old, "worker-died")
    new = store.begin_attempt(trial)
    assert not store.finish_attempt(old, result)
    assert store.trials(study)[0].state is TrialState.RUNNING
    assert store.finish_attempt(new, result)
    assert not store.finish_attempt(new, result.model_copy(update={"accuracy": 0.1}))
    assert store.trials(study)[0].result.accuracy == 0.9
    assert store.trials(study)[0].attempts == 2


def test_an_equal_spec_is_found_across_studies_unless_it_failed(store, study, make_spec, result):
    spec = make_spec()
    for number, state in enumerate(("failed", "complete")):
        trial = store.add_trial(study, number, spec)
        store.finish_attempt(store.begin_attempt(trial), result.model_copy(update={"state": state}))
    assert store.equal_result(spec.hash()) == ("s#1", result)
    assert store.equal_result(make_spec(seed=1).hash()) is None


def test_frame_has_a_column_per_parameter_and_typed_numbers(store, study, make_spec, result):
    for number in range(2):
        trial = store.add_trial(study, number, make_spec(seed=number, **{f"p{number}": 0.5}))
        if number == 0:
            store.finish_attempt(store.begin_attempt(trial), result)
    frame = trials_frame(store, study)
    assert list(frame["number"]) == [0, 1]
    assert frame.loc[0, "param.p0"] == 0.5
    assert frame["param.p1"].isna().tolist() == [True, False]
    assert str(frame["flash"].dtype) == "Int64"
    assert frame.loc[0, "trajectory"] == [{"step": 0, "flash": 70000}]
    assert frame.loc[1, "state"] == "planned"
    assert frame.loc[0, "widths"] == {"conv1": 8}
    assert trials_frame(store, trajectories=False).loc[0, "trajectory"] == []


def test_frame_of_an_empty_study_has_the_same_columns(store, study):
    frame = trials_frame(store, study)
    assert len(frame) == 0
    assert {"accuracy", "violation", "trajectory", "study"} <= set(frame.columns)


def test_unknown_study_lists_those_there_are(store, study):
    with pytest.raises(InputError, match=r"'nope'.*there: 's'"):
        store.study("nope")
    assert store.study(None) == study


@pytest.mark.parametrize("content", [b"hello, this is no database at all", b"SQLite format 3\0" + b"\x07" * 4096])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, content: bytes):
    file = tmp_path / "broken.db"
    file.write_bytes(content)
    for writing in (False, True):
        with pytest.raises(InputError, match=r"broken\.db") as caught:
            Store(f"sqlite:///{file}", writing=writing)
        assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


@pytest.mark.parametrize("storage", ["mcusweep.db", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_bad_addresses_say_what_is_allowed(storage: str):
    with pytest.raises(InputError, match="allowed: sqlite:///FILE"):
        Store(storage)


def test_reading_a_missing_or_foreign_database_creates_nothing(tmp_path: Path):
    with pytest.raises(InputError, match=r"no database .*none\.db"):
        Store(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table t (x)")
    with pytest.raises(InputError, match="holds no mcusweep trials"):
        Store(f"sqlite:///{foreign}")


def test_a_full_disk_is_a_store_error_and_leaves_the_database_sound(store, study, make_spec, result):
    big = result.model_copy(update={"trajectory": [{"x": "y" * 100_000}]})
    trial = store.add_trial(study, 0, make_spec())
    attempt = store.begin_attempt(trial)
    with store.engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
    event.listen(store.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {pages + 2}"))
    store.engine.dispose()
    with pytest.raises(StoreError, match=r"sweep\.db: .*full.*free some space"):
        store.finish_attempt(attempt, big)
    assert store.integrity() == "ok"
    assert store.trials(study)[0].state is TrialState.RUNNING


def test_a_second_driver_is_refused_and_told_who_holds_the_study(store, study, storage):
    with store.lock("s") as lock:
        lock.renew()
        second = Store(storage, writing=True).lock("s")
        with pytest.raises(InputError, match=r"being run by process \d+ on .* since"):
            second.__enter__()
    with store.lock("s"):
        assert store.holder("s") is not None
    assert store.holder("s") is None


def test_the_lock_of_a_killed_driver_is_taken_over(store, study, storage):
    code = f"""
import time
from orchestrator.storage.store import Store
Store({storage!r}, writing=True).lock("s").__enter__()
print("held", flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = store.lock("s")
    with pytest.raises(InputError, match=str(holder.pid)):
        lock.__enter__()
    holder.kill()
    holder.wait()
    with store.lock("s"):
        assert store.holder("s").pid != holder.pid


def test_ten_thousand_trials_read_quickly(store, study, make_spec, result):
    trial = store.add_trial(study, 0, make_spec(learning_rate=0.1))
    store.finish_attempt(store.begin_attempt(trial), result)
    with store.engine.begin() as connection:
        row = dict(connection.execute(text("select * from mcusweep_trials")).mappings().one())
        rows = [row | {"id": k + 1, "number": k} for k in range(1, 10_000)]
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"insert into mcusweep_trials ({names}) values ({marks})"), rows)
    start = time.process_time()
    frame = trials_frame(store, study, trajectories=False)
    assert len(frame) == 10_000
    assert time.process_time() - start < 5


def test_json_columns_are_canonical(store, study):
    with store.engine.connect() as connection:
        stored = connection.scalar(text("select sweep_json from mcusweep_studies"))
    assert stored == json.dumps({"a": 1}, separators=(",", ":"))


def test_a_locked_database_is_one_line_that_names_it(store, study, make_spec, storage, monkeypatch):
    monkeypatch.setattr("orchestrator.storage.sqlite.BUSY_SECONDS", 0.2)
    impatient = Store(storage, writing=True)
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"sweep\.db: database is locked; another program holds it") as caught:
            impatient.add_trial(study, 0, make_spec())
    assert "\n" not in str(caught.value)
    impatient.add_trial(study, 0, make_spec())


def test_a_read_only_database_is_one_line_that_names_it(store, study, make_spec):
    event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
    store.engine.dispose()
    with pytest.raises(StoreError, match=r"sweep\.db: attempt to write a readonly database; make the file"):
        store.add_trial(study, 0, make_spec())
