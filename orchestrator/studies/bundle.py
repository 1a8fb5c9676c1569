"""A study outside its database: rows and files, also as one zip file.

The zip holds ``study.json`` (format, version, the study), ``trials.jsonl`` (one trial a line, with its trajectory,
attempts and their reports) and ``artifacts/``. Rows have the columns of `orchestrator.storage.transfer`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from mcu.errors import InputError
from orchestrator.spec import Artifact, TrialSpec
from orchestrator.storage.connection import artifact_root
from orchestrator.storage.records import study_of, trial_of
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import ATTEMPT_NAMES, REPORT_NAMES, REPORTS, STUDY_NAMES, TRIAL_NAMES, study_rows

FORMAT, VERSION = "mcusweep-study", 1
ReadFile = Callable[[str], bytes | None]


@dataclass(frozen=True)
class StudyBundle:
    """A study's row, its trials' rows (with ``trajectory_json`` and ``attempt_rows``), and its files.

    ``read`` gives the bytes of a file by its path in the artifact folder, or None where it is missing.
    """

    study: dict[str, Any]
    trials: list[dict[str, Any]]
    read: ReadFile

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.study["name"])

    def files(self) -> Iterator[tuple[str, Artifact]]:
        """Path and note of every file of the trials."""
        for row in self.trials:
            for note in json.loads(row["artifacts_json"] or "{}").values():
                artifact = Artifact.model_validate(note)
                yield artifact.path, artifact


def bundle_of(store: Store, study: Study) -> StudyBundle:
    """A study of a database; its files are read on demand."""
    row, trials = study_rows(store, study)
    root = artifact_root(store.url)
    return StudyBundle(row, trials, lambda path: _read_below(root, path))


def _read_below(root: Path, path: str) -> bytes | None:
    full = (root / path).resolve()
    if not full.is_relative_to(root.resolve()) or not full.is_file():
        return None
    return full.read_bytes()


def write_zip(bundle: StudyBundle, path: Path) -> list[str]:
    """Write a bundle to a new zip file; returns the paths of files skipped because they are missing or damaged.

    Raises:
        InputError: the file exists or cannot be written.
    """
    if path.exists():
        raise InputError(f"--output {path}: exists already; give another name")
    left_out = []
    part = path.with_name(f".{path.name}.part")
    head = {"format": FORMAT, "version": VERSION, "study": bundle.study}
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("study.json", json.dumps(head, indent=1))
            archive.writestr("trials.jsonl", "".join(json.dumps(row) + "\n" for row in bundle.trials))
            for name, note in dict(bundle.files()).items():
                data = bundle.read(name)
                if data is None or hashlib.sha256(data).hexdigest() != note.sha256:
                    left_out.append(name)
                else:
                    archive.writestr(f"artifacts/{name}", data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a read-only file system even what is not there cannot be removed
            part.unlink(missing_ok=True)
        raise InputError(f"--output {path}: {error.strerror or error}") from None
    return left_out


def read_zip(path: Path) -> StudyBundle:
    """A bundle from a zip file, every row checked: columns, specification and its hash, result, paths of files.

    Raises:
        InputError: no such file, not a study, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("study.json"))
            lines = archive.read("trials.jsonl").decode().splitlines()
            trials = [json.loads(line) for line in lines]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path}: is not an exported study ({error})") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("version") != VERSION:
        raise InputError(f"{path}: is not an exported study of version {VERSION}")
    bundle = StudyBundle(head["study"], trials, lambda name: _read_member(path, name))
    check_bundle(bundle, str(path))
    return bundle


def _read_member(path: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.read(f"artifacts/{name}")
        except (KeyError, zipfile.BadZipFile, RuntimeError):
            return None


def check_bundle(bundle: StudyBundle, source: str) -> None:
    """Refuse rows that are not valid for this version.

    Raises:
        InputError: which trial and what is wrong with it.
    """
    _check_columns(bundle.study, STUDY_NAMES, f"{source}: the study")
    try:
        study_of(bundle.study | {"id": 0})
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: the study is damaged ({error})") from None
    numbers = set()
    for at, row in enumerate(bundle.trials):
        where = f"{source}: trial {row.get('number', at) if isinstance(row, dict) else at}"
        _check_columns(row, TRIAL_NAMES, where)
        try:
            spec = TrialSpec.model_validate_json(row["spec_json"])
            trial_of(row | {"id": 0})
            json.loads(row["trajectory_json"] or "[]")
            _check_attempts(row["attempt_rows"], where)
        except (ValidationError, TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged ({str(error).splitlines()[0]})") from None
        if spec.hash() != row["spec_hash"] or row["number"] in numbers:
            raise InputError(f"{where} is damaged: its specification and number do not agree with the rest")
        numbers.add(row["number"])
    for name, _ in bundle.files():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise InputError(f"{source}: file {name!r} lies outside the study's folder")


def _check_attempts(rows: Any, where: str) -> None:
    for row in rows:
        _check_columns(row, ATTEMPT_NAMES, f"{where}: an attempt")
        for report in row[REPORTS]:
            _check_columns(report, REPORT_NAMES, f"{where}: a report")


def _check_columns(row: Any, wanted: frozenset[str], where: str) -> None:
    if not isinstance(row, dict) or set(row) != wanted:
        different = sorted(set(row) ^ wanted) if isinstance(row, dict) else ["no object"]
        raise InputError(f"{where} does not have the columns of this version: {', '.join(map(str, different[:5]))}")
