"""Hostile texts in every argument of every question: refused or bound, never a part of the SQL, nothing changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.cli import main as cli
from orchestrator.storage.store import Store, Study

HOSTILE = (
    "x'; drop table mcusweep_trials; --",
    'x" or 1=1 --',
    "1) union select sweep_json from mcusweep_studies --",
    "' or '1'='1",
    "number; attach database '/tmp/evil' as evil",
    "json_extract(spec_json,'$')",
    "../../../etc/passwd",
    "%(x)s :y ? {z} \x1b[31m",
)
PLACES = (
    ("query", "--where", "{}"),
    ("query", "--where", "method = '{}'"),
    ("query", "--where", "method like '{}'"),
    ("query", "--where", "param.{} > 0"),
    ("query", "--where", "front({}, accuracy)"),
    ("query", "--study", "{}"),
    ("query", "--columns", "{}"),
    ("query", "--sort", "{}"),
    ("query", "--sort", "-{}"),
    ("query", "--limit", "{}"),
    ("query", "--front", "flash,{}"),
    ("query", "--group", "{}"),
    ("query", "--format", "{}"),
    ("best", "--device", "{}"),
    ("best", "--flash", "{}"),
    ("best", "--study", "{}", "--flash", "64KB"),
    ("show", "{}"),
    ("show", "{}#0"),
    ("compare", "0", "{}"),
    ("diff", "s", "{}"),
    ("status", "--study", "{}"),
    ("report", "--study", "{}"),
    ("export", "{}", "--output", "out"),
    ("study", "export", "{}"),
    ("study", "delete", "{}", "--yes"),
    ("study", "merge", "{}"),
    ("study", "import", "{}"),
)


@pytest.fixture
def database(tmp_path, monkeypatch, make_spec, result) -> Path:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///mcusweep.db", writing=True)
    study = store.create_study(Study(0, "s", {"a": 1}, None, {}, 4, {}, {}, ""))
    for seed in range(3):
        store.finish_attempt(store.begin_attempt(store.add_trial(study, seed, make_spec(seed, rate=0.1))), result)
    store.close()
    return tmp_path / "mcusweep.db"


@pytest.fixture
def statements():
    """Every SQL statement that reaches the engine, as text."""
    seen: list[str] = []

    def note(connection, cursor, statement, *_):
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def content(database: Path) -> str:
    store = Store(f"sqlite:///{database}")
    with store.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())
    store.close()
    return hashlib.sha256(dump.encode()).hexdigest()


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_nothing_a_user_writes_becomes_sql(database, statements, capfd, place):
    before = content(database)
    for hostile in HOSTILE:
        del statements[:]
        status = cli.run([part.replace("{}", hostile) for part in place])
        told = capfd.readouterr().err
        assert status in (0, 2), told
        assert "Traceback" not in told
        assert status == 0 or len(told.strip().splitlines()) == 1
        assert "\x1b" not in told
        for statement in statements:
            assert statement.lstrip().split()[0] in ("SELECT", "PRAGMA"), statement
            assert hostile not in statement
            assert not {"drop", "union", "attach", "etc/passwd"} & set(statement.lower().split())
    assert content(database) == before
    names = {path.name for path in database.parent.iterdir()}
    assert names <= {"mcusweep.db", "mcusweep.db-wal", "mcusweep.db-shm", "mcusweep-artifacts"}
