"""Import of a study into a database: as a new study, or merged into the one of the same name, without duplicates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.planning.sweep_difference import differences
from orchestrator.provenance import with_merged
from orchestrator.running.disk_guard import free_bytes
from orchestrator.spec import IMPORTED
from orchestrator.storage.artifacts import Artifacts, claim_artifacts
from orchestrator.storage.connection import database_label
from orchestrator.storage.records import notes_in, study_of
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import delete_rows, take_trials
from orchestrator.studies.bundle import StudyBundle
from orchestrator.studies.row_checks import check_name


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


def bring_in(
    store: Store, bundle: StudyBundle, name: str | None = None, *, new: bool = False, trusted: bool = False
) -> Merged:
    """Import a study's finished trials into a database, under its own name or another.

    A trial that is finished here with an equal specification (by hash) is not imported again. Files are written first,
    then all rows in one transaction: a killed process leaves only unreferenced files, and can be repeated.

    Args:
        store: opened for writing.
        new: whether a study of that name must not exist.
        trusted: whether new trials may start from the imported networks, and reuse the results.

    Raises:
        InputError: a study of that name exists and must not, or has another sweep, or is being run; a row or file is
            not valid for this version.
    """
    name = name or bundle.name
    check_name(name, "--name")
    with store.lock(name):
        study = _study(store, bundle, name, new)
        notes, missing = _bring_files(bundle, claim_artifacts(store), trusted)
        rows = (row | {"artifacts_json": _moved(row["artifacts_json"], notes)} for row in bundle.trials())
        counts = take_trials(store, study, rows, trusted=trusted)
        if study.id and (counts["added"] or counts["filled"]):
            store.note_versions(study, with_merged(study.versions, json.loads(bundle.study["versions_json"])))
    return Merged(name, **counts, missing=tuple(missing))


def _study(store: Store, bundle: StudyBundle, name: str, new: bool) -> Study:
    """The study to merge into; one of id 0 where there is none yet."""
    there = store.find_study(name)
    theirs = study_of(bundle.study | {"id": 0, "name": name})
    if there is None:
        return theirs
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


def _bring_files(bundle: StudyBundle, here: Artifacts, trusted: bool) -> tuple[dict[str, str], list[str]]:
    """Copy the files that are not there yet; returns where each lies now, and which are missing.

    Those that are not trusted lie apart, where no worker looks for what it begins with.
    """
    paths: dict[str, str] = {}
    missing = []
    files, root = bundle.files(), here.folder
    total, free = sum(note.bytes for note in files.values()), free_bytes(root)
    if total > free:
        raise InputError(f"{bundle.source}: its files have {total:,} bytes, and only {free:,} are free in {root}")
    for name, note in files.items():
        if not trusted or _other_bytes(root / name, note.sha256):  # an equal trial gave other bytes: keep both
            paths[name] = f"{IMPORTED}/{note.sha256[:16]}/{Path(name).name}"
        target = root / paths.get(name, name)
        if target.is_file() and not _other_bytes(target, note.sha256):
            continue
        data = bundle.read(note)
        if data is None or hashlib.sha256(data).hexdigest() != note.sha256:
            missing.append(name)
            continue
        try:
            write_atomic(target, data)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    here.send(paths.get(name, name) for name in files if name not in missing)
    return paths, missing


def _other_bytes(file: Path, sha256: str) -> bool:
    return file.exists() and (not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256)


def _moved(text: str | None, paths: dict[str, str]) -> str | None:
    if not text or not paths:
        return text
    notes = notes_in(text)
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
