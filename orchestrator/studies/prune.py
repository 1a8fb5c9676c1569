"""Making a trial database smaller: files nobody refers to, and the details of trials that lead nowhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from mcu.errors import InputError
from orchestrator.spec import FINAL_STATES
from orchestrator.storage.connection import artifact_root, database_file, transaction
from orchestrator.storage.schema import ATTEMPTS, EPOCH_REPORTS, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store

_OBJECTIVES = ("val_accuracy", "flash", "sram", "macs")
_CHUNK = 500


@dataclass(frozen=True)
class Waste:
    """What can go.

    Attributes:
        files: in the artifact folder that no trial refers to, folders of unfinished trials apart.
        details: ids of finished trials off the front whose trajectory and reports can go.
        models: files of those trials.
    """

    files: list[Path] = field(default_factory=list)
    details: list[int] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in (*self.files, *self.models) if path.exists())


def find_waste(store: Store, *, details: bool, models: bool) -> Waste:
    """What can go from a database and its artifact folder.

    Trials on the front of validation accuracy, flash, SRAM and MACs of their study stay whole: every winner of every
    budget is among them.
    """
    root = artifact_root(store.url).resolve()
    off_front = _off_front(store) if details or models else []
    with transaction(store.engine, store.url) as connection:
        query = sa.select(TRIALS.c.id, TRIALS.c.state, TRIALS.c.spec_hash, TRIALS.c.artifacts_json)
        rows = connection.execute(query).all()
    unfinished = {row.spec_hash for row in rows if row.state not in FINAL_STATES}
    notes = {row.id: _paths(row.artifacts_json, root) for row in rows}
    dropped = set(off_front) if models else set()
    needed = {path for key, paths in notes.items() if key not in dropped for path in paths}
    loose = {path for key, paths in notes.items() if key in dropped for path in paths} - needed
    there = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
    unknown = [
        path for path in there if path not in needed | loose and path.relative_to(root).parts[0] not in unfinished
    ]
    return Waste(unknown, off_front if details else [], sorted(path for path in loose if path.exists()))


def _paths(text: str | None, root: Path) -> list[Path]:
    found = [(root / note["path"]).resolve() for note in json.loads(text or "{}").values()]
    return [path for path in found if path.is_relative_to(root)]


def _off_front(store: Store) -> list[int]:
    from reports.fronts import nondominated

    off: list[int] = []
    for study in store.studies():
        columns = [TRIALS.c.id, TRIALS.c.feasible, *(TRIALS.c[name] for name in _OBJECTIVES)]
        mine = (TRIALS.c.study_id == study.id) & TRIALS.c.state.in_([state.value for state in FINAL_STATES])
        with transaction(store.engine, store.url) as connection:
            rows = connection.execute(sa.select(*columns).where(mine).order_by(TRIALS.c.id)).all()
        points = [[float("nan") if value is None else float(value) for value in row[2:]] for row in rows]
        if rows:
            kept = nondominated(points, maximise=[True, False, False, False])
            off += [row.id for row, keep in zip(rows, kept, strict=True) if not keep]
    return off


def prune(store: Store, waste: Waste) -> None:
    """Remove it, and give the database file back the room.

    Raises:
        InputError: a study is being run.
    """
    for study in store.studies():
        holder = store.holder(study.name)
        if holder is not None:
            raise InputError(f"study {study.name!r} is being run by process {holder.pid} on {holder.host}; wait for it")
    with transaction(store.engine, store.url) as connection:
        for start in range(0, len(waste.details), _CHUNK):
            some = waste.details[start : start + _CHUNK]
            attempts = sa.select(ATTEMPTS.c.id).where(ATTEMPTS.c.trial_id.in_(some))
            connection.execute(sa.delete(EPOCH_REPORTS).where(EPOCH_REPORTS.c.attempt_id.in_(attempts)))
            connection.execute(sa.delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id.in_(some)))
    for path in (*waste.files, *waste.models):
        path.unlink(missing_ok=True)
    root = artifact_root(store.url)
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if database_file(store.url) is not None:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
