"""A study outside its database: rows and files, also as one zip file.

The zip holds ``study.json`` (format, version, the study), ``trials.jsonl`` (one trial a line, with its trajectory,
attempts and their reports) and ``artifacts/``. Rows have the columns of `orchestrator.storage.transfer`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from orchestrator.spec import Artifact
from orchestrator.storage.artifacts import artifacts_of
from orchestrator.storage.connection import database_label
from orchestrator.storage.records import notes_in
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import study_rows
from orchestrator.studies.row_checks import check_study, check_trial

FORMAT, VERSION = "mcusweep-study", 1
HEAD, TRIALS, FOLDER = "study.json", "trials.jsonl", "artifacts/"
"""Members of the zip file; the last is a folder."""

ReadFile = Callable[[Artifact], bytes | None]


@dataclass(frozen=True)
class StudyBundle:
    """A study's row, its trials' rows (with ``trajectory_json`` and ``attempt_rows``), and its files.

    ``rows`` may come from a file, and are then read each time; ``source`` is its name in messages. ``read`` gives the
    bytes of a file by its note, or None where it is missing or damaged.
    """

    study: dict[str, Any]
    rows: Iterable[dict[str, Any]]
    read: ReadFile
    source: str = "study"

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.study["name"])

    def trials(self) -> Iterator[dict[str, Any]]:
        """The trials' rows, each checked: columns, values, specification and its hash, result, paths of files.

        Raises:
            InputError: naming the trial that is not valid for this version.
        """
        numbers = set()
        for at, row in enumerate(self.rows):
            where = f"{self.source}: trial {str(row.get('number', at))[:20] if isinstance(row, dict) else at}"
            check_trial(row, where)
            if row["number"] in numbers:
                raise InputError(f"{where} is damaged: its specification and number do not agree with the rest")
            numbers.add(row["number"])
            yield row

    def files(self) -> dict[str, Artifact]:
        """Every file of the trials by its path.

        Raises:
            InputError: as of `trials`.
        """
        return {note.path: note for row in self.trials() for note in notes_in(row["artifacts_json"]).values()}


def bundle_of(store: Store, study: Study) -> StudyBundle:
    """A study of a database; its files are read on demand.

    Raises:
        InputError: the study's row is not as this version would have written it.
    """
    row, trials = study_rows(store, study)
    files, label = artifacts_of(store), database_label(store.url)
    check_study(row, f"{label}: study {study.name!r}")

    def read(note: Artifact) -> bytes | None:
        with suppress(InputError):
            return files.read(note.path, note.sha256, study.name)
        return None

    return StudyBundle(row, trials, read, f"{label}: study {study.name!r}")


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
            archive.writestr(HEAD, json.dumps(head, indent=1))
            archive.writestr(TRIALS, "".join(json.dumps(row) + "\n" for row in bundle.trials()))
            for name, note in bundle.files().items():
                data = bundle.read(note)
                if data is None or hashlib.sha256(data).hexdigest() != note.sha256:
                    left_out.append(name)
                else:
                    archive.writestr(f"{FOLDER}{name}", data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # on a read-only file system even what is not there cannot be removed
            part.unlink(missing_ok=True)
    return left_out
