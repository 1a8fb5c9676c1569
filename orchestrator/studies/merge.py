"""Import of a study into a database: as a new study, or merged into the one of the same name, without duplicates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.planning.sweep_difference import differences
from orchestrator.spec import Artifact
from orchestrator.storage.connection import artifact_root, database_label
from orchestrator.storage.records import study_of
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import delete_rows, take_trials
from orchestrator.studies.bundle import StudyBundle


@dataclass(frozen=True)
class Merged:
    """Result of a merge, in trials: ``added``, ``filled`` (planned here, finished there), ``known`` (of equal
    specification and finished here), ``unfinished`` there and skipped; and ``missing`` files.
    """

    study: str
    added: int
    filled: int
    known: int
    unfinished: int
    missing: tuple[str, ...]


def bring_in(store: Store, bundle: StudyBundle, name: str | None = None, *, new: bool = False) -> Merged:
    """Import a study's finished trials into a database, under its own name or another.

    A trial that is finished here with an equal specification (by hash) is not imported again.

    Args:
        store: opened for writing.
        new: whether a study of that name must not exist.

    Raises:
        InputError: a study of that name exists and must not, or has another sweep, or is being run.
    """
    name = name or bundle.name
    with store.lock(name):
        study = _study(store, bundle, name, new)
        paths, missing = _bring_files(bundle, artifact_root(store.url))
        rows = [row | {"artifacts_json": _moved(row["artifacts_json"], paths)} for row in bundle.trials]
        counts = take_trials(store, study, rows)
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
            write_atomic(target, data)
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
    """Delete a study from a database and from Optuna's tables; its files are left to `prune`. Returns its trials.

    Raises:
        InputError: it is being run.
    """
    from orchestrator.storage.optuna_mirror import forget_mirror

    with store.lock(study.name):
        count = delete_rows(store, study)
        forget_mirror(store.url, study.name)
    return count
