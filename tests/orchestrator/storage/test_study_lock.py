"""Who may write a study: judged by heartbeats on the database's clock, fenced by a token in every write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from mcu.errors import InputError
from orchestrator.storage.connection import DriverReplaced
from orchestrator.storage.store import Store
from orchestrator.storage.study_lock import PATIENCE, iso


def change(store: Store, **values: object) -> None:
    marks = ", ".join(f"{name} = :{name}" for name in values)
    with store.engine.begin() as connection:
        connection.execute(text(f"update mcusweep_locks set {marks}"), values)


def ago(seconds: float) -> str:
    return iso(datetime.now(UTC) - timedelta(seconds=seconds))


@pytest.mark.parametrize(("silent", "free"), [(5, False), (PATIENCE.total_seconds() + 5, True), (-900, False)])
def test_a_holder_of_another_process_namespace_is_judged_by_its_heartbeat_alone(store, study, storage, silent, free):
    """Its process number means nothing here: neither that there is none of it, nor that there is one."""
    with store.lock("s"):
        for pid in (1, 2**22 + 1):
            change(store, token="another namespace's", pid=pid, process_start=None, renewed_at=ago(silent))
            lock = Store(storage, writing=True).lock("s")
            if free:
                with lock:
                    assert Store(storage).holder("s") is not None
            else:
                with pytest.raises(InputError, match=r"is being run by process \d+ on .*--take-over"):
                    lock.__enter__()


def test_a_heartbeat_in_the_future_is_said_and_can_be_taken_over_by_name(store, study, storage):
    with store.lock("s"):
        change(store, token="another namespace's", renewed_at=ago(-900))
        with pytest.raises(InputError, match=r"whose heartbeat is \d+ s ahead"):
            Store(storage, writing=True).lock("s").__enter__()
        with Store(storage, writing=True).lock("s", take_over=True):
            pass


def test_a_driver_that_was_replaced_stops_at_its_next_write_and_changes_nothing(store, study, storage, make_spec):
    with store.lock("s") as lock:
        trial = store.add_trial(study, 0, make_spec())
        with Store(storage, writing=True).lock("s", take_over=True) as other:
            for write in (
                lambda: store.add_trial(study, 1, make_spec(seed=1)),
                lambda: store.begin_attempt(trial),
                lock.renew,
            ):
                with pytest.raises(DriverReplaced, match="another driver has taken over study 's'; this one stops"):
                    write()
            other.renew()
            assert [trial.state for trial in store.trials(study)] == ["planned"]
    assert store.holder("s") is None


def test_every_write_is_a_heartbeat(store, study, make_spec):
    with store.lock("s"):
        change(store, renewed_at=ago(100))
        store.add_trial(study, 0, make_spec())
        assert store.holder("s").silent < timedelta(seconds=20)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed: no second process namespace")
def test_a_driver_in_another_process_namespace_is_refused_while_the_first_lives(store, study, storage):
    code = f"from orchestrator.storage.store import Store; Store({storage!r}, writing=True).lock('s').__enter__()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    if subprocess.run([*command[:4], "true"]).returncode != 0:
        pytest.skip("no new process namespace can be made here")
    with store.lock("s") as lock:
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "is being run by process" in second.stderr
        lock.renew()
    assert subprocess.run(command, timeout=60).returncode == 0
