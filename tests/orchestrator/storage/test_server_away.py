"""A real PostgreSQL server whose connections are cut, that restarts, stays away, or is met empty by several drivers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_sweep import make_sweep
from scripted import frame_of, good, scripted
from servers import PostgresServer, postgres_programs
from sqlalchemy import create_engine, exc, text
from sqlalchemy.engine.base import RootTransaction

from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished
from orchestrator.running.watcher import Watcher
from orchestrator.storage.connection import StoreError
from orchestrator.storage.records import Study
from orchestrator.storage.store import Store

DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "cluster.md"
FAKES = Path(__file__).parents[1] / "fakes"
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = :kind"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="the client of PostgreSQL is not installed: pip install 'mcusweep[postgres]'")
    server = PostgresServer(programs)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def address(server, tmp_path, monkeypatch) -> str:
    """An empty database of that server; files of trials lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    name = f"a{time.monotonic_ns()}"
    engine = create_engine(server.address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine.dispose()
    return server.address.replace("/postgres", f"/{name}")


class Notes(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def cut_all(address: str) -> None:
    engine = create_engine(address)
    with engine.connect() as connection:
        connection.execute(text(CUT), {"kind": "client backend"})
    engine.dispose()


def test_a_sweep_outlives_connections_that_are_cut_and_a_restart(server, address):
    def script(attempt, spec, nth):
        if len(seen) in (2, 5):
            cut_all(address)
        if len(seen) == 8:
            server.stop()
            threading.Timer(1.0, server.start).start()
        seen.append(spec)
        return [Finished(attempt, good(spec))]

    seen: list[object] = []
    notes = Notes()
    report, executor = scripted(address, make_sweep(trials=12, sampler="tpe"), script, watcher=notes)
    assert report.counts == {"complete": 12}
    assert len(executor.seen) == 12
    frame = frame_of(address)
    assert list(frame["number"]) == list(range(12))
    assert list(frame["attempts"]) == [1] * 12
    assert notes.lines[-1] == "connected again"
    assert any("retrying for 60 s" in line for line in notes.lines)


def test_a_server_that_stays_away_is_given_up_after_the_stated_time(server, address, make_spec):
    store = Store(address, writing=True)
    study = store.create_study(Study(0, "s", {"a": 1}, None, {}, 4, {}, {}, ""))
    store.patience.seconds = 1.5
    server.stop()
    try:
        start = time.monotonic()
        with pytest.raises(StoreError, match=r"cannot use postgresql\+psycopg://.*; retried for 2 s") as caught:
            store.add_trial(study, 0, make_spec())
        assert 1.0 < time.monotonic() - start < 50  # the usual 60 s are not waited for
        assert len(str(caught.value).splitlines()) == 1
    finally:
        server.start()
    assert store.add_trial(study, 0, make_spec()) == 1


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_that_is_cut_counts_once(address, make_spec, monkeypatch, committed):
    store = Store(address, writing=True)
    study = store.create_study(Study(0, "s", {"a": 1}, None, {}, 4, {}, {}, ""))
    store.patience.first_wait = 0.01
    real, cuts = RootTransaction.commit, []

    def cut_once(self):
        if cuts:
            return real(self)
        cuts.append(self)
        real(self) if committed else self.rollback()
        raise exc.OperationalError(
            "commit", None, Exception("server closed the connection"), connection_invalidated=True
        )

    monkeypatch.setattr(RootTransaction, "commit", cut_once)
    store.add_trial(study, 0, make_spec())
    assert [trial.number for trial in store.trials(study)] == [0]
    assert len(cuts) == 1


def test_roles_with_the_rights_of_the_documentation_sweep_and_query_and_nothing_else(address, capsys):
    """And a server that has no connection left is waited for."""
    [rights] = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    database = engine.url.database
    with engine.connect() as owner:
        for statement in filter(str.strip, rights.replace("sweeps", database).split(";")):
            owner.execute(text(statement))
    as_sweeper, as_reader = (address.replace("mcusweep@", f"{role}@") for role in ("sweeper", "reader"))
    notes, used = Notes(), []

    def script(attempt, spec, nth):
        with engine.connect() as owner:
            count = "select count(*) from pg_stat_activity where usename = 'sweeper'"
            used.append(owner.execute(text(count)).scalar())
            if len(used) == 2:
                owner.execute(text("alter role sweeper connection limit 0"))
                owner.execute(text(CUT), {"kind": "client backend"})
                threading.Timer(1.0, lift).start()
        return [Finished(attempt, good(spec))]

    def lift():
        with engine.connect() as owner:
            owner.execute(text("alter role sweeper connection limit 10"))

    report, _ = scripted(as_sweeper, make_sweep(trials=4), script, watcher=notes)
    assert report.counts == {"complete": 4}
    assert max(used) <= 4
    assert any("too many connections for role" in line for line in notes.lines)
    assert cli.run(["query", "--storage", as_reader]) == 0
    capsys.readouterr()
    assert cli.run(["study", "delete", "s", "--yes", "--storage", as_reader]) == 1
    assert "permission denied" in capsys.readouterr().err
    engine.dispose()


def test_first_starts_at_once_on_an_empty_database_all_run(address):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import optuna; from scripted import scripted\n"
        "from fake_sweep import make_sweep; sweep = make_sweep(trials=2); name = sys.argv[3]\n"
        "sweep = sweep.model_copy(update={'sweep': sweep.sweep.model_copy(update={'name': name})})\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "report, _ = scripted(sys.argv[2], sweep); assert report.counts == {'complete': 2}"
    )
    names = ["first", "second", "third"]
    command = [sys.executable, "-c", code, str(FAKES), address]
    drivers = [
        subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    for driver in drivers:
        _, said = driver.communicate(timeout=120)
        assert driver.returncode == 0, said
    assert {study.name for study in Store(address).studies()} == set(names)
