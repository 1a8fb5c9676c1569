"""Bringing a study into a database: as a new one, or into the one of the same name, no trial twice."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mcu.errors import InputError
from orchestrator.planning.sweep_difference import differences
from orchestrator.spec import FINAL_STATES, Artifact
from orchestrator.storage.connection import artifact_root, database_label, transaction
from orchestrator.storage.optuna_storage import open_optuna
from orchestrator.storage.records import study_of
from orchestrator.storage.schema import ATTEMPTS, EPOCH_REPORTS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store, Study
from orchestrator.studies.bundle import REPORTS, StudyBundle

_FINAL = {state.value for state in FINAL_STATES}
_TRIAL_COLUMNS = [column.name for column in TRIALS.c if column.name not in ("id", "study_id", "number")]


@dataclass(frozen=True)
class Merged:
    """What a merge did, in trials: ``added``, ``filled`` (planned here, finished there), ``known`` (of equal
    specification and finished here), ``unfinished`` there and left out; and ``missing`` files.
    """

    study: str
    added: int
    filled: int
    known: int
    unfinished: int
    missing: tuple[str, ...]


def bring_in(store: Store, bundle: StudyBundle, name: str | None = None, *, new: bool = False) -> Merged:
    """Bring a study's finished trials into a database, under its own name or another.

    A trial that is finished here with an equal specification (by hash) is not brought in again.

    Args:
        store: opened for writing.
        new: whether a study of that name must not be there yet.

    Raises:
        InputError: there is a study of that name, from another sweep or although it should be new; it is being run.
    """
    name = name or bundle.name
    with store.lock(name):
        study = _study(store, bundle, name, new)
        paths, missing = _bring_files(bundle, artifact_root(store.url))
        counts = dict.fromkeys(("added", "filled", "known", "unfinished"), 0)
        with transaction(store.engine, store.url) as connection:
            here = _Here(connection, study)
            for row in bundle.trials:
                counts[here.take(row | {"artifacts_json": _moved(row["artifacts_json"], paths)})] += 1
    return Merged(name, **counts, missing=tuple(missing))


def _study(store: Store, bundle: StudyBundle, name: str, new: bool) -> Study:
    there = store.find_study(name)
    theirs = study_of(bundle.study | {"id": 0, "name": name})
    if there is None:
        return store.create_study(theirs)
    label = database_label(store.url)
    if new:
        raise InputError(f"study {name!r} is in {label} already; give --name NAME, or merge")
    different = [line for line in differences(there.sweep, theirs.sweep) if not line.startswith("sweep.name:")]
    if different:
        raise InputError(
            f"study {name!r} in {label} was made from another sweep: {'; '.join(different[:3])}; "
            "export and import it under another --name"
        )
    return there


class _Here:
    """The trials of the study that is merged into."""

    def __init__(self, connection: sa.Connection, study: Study) -> None:
        self.connection, self.study = connection, study
        query = sa.select(TRIALS.c.id, TRIALS.c.number, TRIALS.c.spec_hash, TRIALS.c.state)
        rows = connection.execute(query.where(TRIALS.c.study_id == study.id)).all()
        self.numbers = {row.number for row in rows}
        self.finished = {row.spec_hash for row in rows if row.state in _FINAL}
        self.open = {row.spec_hash: (row.id, row.number) for row in rows if row.state not in _FINAL}

    def take(self, row: dict[str, Any]) -> str:
        """Bring one trial in; returns which count it adds to."""
        key = row["spec_hash"]
        if row["state"] not in _FINAL:
            return "unfinished"
        if key in self.finished:
            return "known"
        self.finished.add(key)
        if key in self.open:
            trial_id, number = self.open.pop(key)
            self._remove(trial_id)
            self._insert(row, number)
            return "filled"
        self._insert(row, self._number(row["number"]))
        return "added"

    def _number(self, wanted: int) -> int:
        """Its own number where that is the next of the plan; else one behind the plan, which a driver passes over."""
        planned = self.study.planned_trials
        in_plan = sum(number < planned for number in self.numbers)
        if wanted == in_plan < planned:
            return wanted
        return max([planned - 1, *self.numbers]) + 1

    def _remove(self, trial_id: int) -> None:
        mine = sa.select(ATTEMPTS.c.id).where(ATTEMPTS.c.trial_id == trial_id)
        for statement in (
            sa.delete(EPOCH_REPORTS).where(EPOCH_REPORTS.c.attempt_id.in_(mine)),
            sa.delete(ATTEMPTS).where(ATTEMPTS.c.trial_id == trial_id),
            sa.delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id == trial_id),
            sa.delete(TRIALS).where(TRIALS.c.id == trial_id),
        ):
            self.connection.execute(statement)

    def _insert(self, row: dict[str, Any], number: int) -> None:
        self.numbers.add(number)
        values = {name: row[name] for name in _TRIAL_COLUMNS}
        key = self.connection.execute(
            sa.insert(TRIALS).values(study_id=self.study.id, number=number, **values)
        ).inserted_primary_key
        assert key is not None
        trial_id = int(key[0])
        self.connection.execute(
            sa.insert(TRAJECTORIES).values(trial_id=trial_id, trajectory_json=row["trajectory_json"] or "[]")
        )
        for attempt in row["attempt_rows"]:
            fresh = secrets.token_hex(8)
            plain = {name: value for name, value in attempt.items() if name != REPORTS}
            self.connection.execute(sa.insert(ATTEMPTS).values(id=fresh, trial_id=trial_id, **plain))
            if attempt[REPORTS]:
                reports = [report | {"attempt_id": fresh} for report in attempt[REPORTS]]
                self.connection.execute(sa.insert(EPOCH_REPORTS), reports)


def _bring_files(bundle: StudyBundle, root: Path) -> tuple[dict[str, str], list[str]]:
    """Copy the files of finished trials that are not there yet; returns where each went, and which are missing."""
    paths: dict[str, str] = {}
    missing = []
    for name, note in dict(bundle.files()).items():
        target = root / name
        if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() != note.sha256:
            paths[name] = f"{note.sha256[:16]}/{Path(name).name}"  # an equal trial gave other bytes: keep both
            target = root / paths[name]
        if target.exists():
            continue
        data = bundle.read(name)
        if data is None or hashlib.sha256(data).hexdigest() != note.sha256:
            missing.append(name)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(data)
            part.replace(target)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return paths, missing


def _moved(text: str | None, paths: dict[str, str]) -> str | None:
    if not text or not paths:
        return text
    notes = {name: Artifact.model_validate(note) for name, note in json.loads(text).items()}
    moved = {name: note.model_copy(update={"path": paths.get(note.path, note.path)}) for name, note in notes.items()}
    return json.dumps({name: note.model_dump() for name, note in moved.items()}, sort_keys=True, separators=(",", ":"))


def delete_study(store: Store, study: Study) -> int:
    """Take a study out of a database, Optuna's record of it as well; its files stay for `prune`. Returns its trials.

    Raises:
        InputError: it is being run.
    """
    with store.lock(study.name):
        with transaction(store.engine, store.url) as connection:
            trials = sa.select(TRIALS.c.id).where(TRIALS.c.study_id == study.id)
            attempts = sa.select(ATTEMPTS.c.id).where(ATTEMPTS.c.trial_id.in_(trials))
            connection.execute(sa.delete(EPOCH_REPORTS).where(EPOCH_REPORTS.c.attempt_id.in_(attempts)))
            connection.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.trial_id.in_(trials)))
            connection.execute(sa.delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id.in_(trials)))
            count = connection.execute(sa.delete(TRIALS).where(TRIALS.c.study_id == study.id)).rowcount
            connection.execute(sa.delete(STUDIES).where(STUDIES.c.id == study.id))
        _forget(store, study.name)
    return count


def _forget(store: Store, name: str) -> None:
    import optuna

    storage = open_optuna(store.url, writing=True)
    try:
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()
