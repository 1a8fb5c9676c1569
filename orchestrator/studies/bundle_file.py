"""Reader of exported studies from untrusted sources: bounded size, line by line, only files listed in the rows."""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from orchestrator.spec import Artifact
from orchestrator.storage.row_values import MOST_TEXT
from orchestrator.studies.bundle import FOLDER, FORMAT, HEAD, TRIALS, VERSION, StudyBundle
from orchestrator.studies.row_checks import check_study

MOST_MEMBERS = 1_000_000
MOST_LINE = 2 * MOST_TEXT
"""Bytes of the line of one trial, and of the description of the study."""

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, ValueError, OverflowError,
    RuntimeError,
)  # fmt: skip  # RuntimeError: encrypted, an unknown compression, or nested too deeply


def read_zip(path: Path) -> StudyBundle:
    """A bundle from a zip file; rows and files are read on each access.

    Raises:
        InputError: no such file, not a study, or damaged; one line.
    """
    with _opened(path) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if len(names) < len(members) or len(members) > MOST_MEMBERS:
            raise ValueError("a name is there twice, or there are too many")
        strange = next((name for name in names if name not in (HEAD, TRIALS) and not name.startswith(FOLDER)), None)
        if strange is not None:
            raise ValueError(f"it holds {strange[:80]!r}")
        head = _parsed(_whole(archive, HEAD, MOST_LINE))
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("version") != VERSION:
        raise InputError(f"{path}: is not an exported study of version {VERSION}")
    check_study(head.get("study"), f"{path}: the study")
    bundle = StudyBundle(head["study"], _Rows(path), lambda note: _file(path, note), str(path))
    noted = {FOLDER + name for name in bundle.files()}
    for name in names - {HEAD, TRIALS} - noted:
        if not name.endswith("/"):
            raise InputError(f"{path}: is not an exported study (no trial has the file {name[:120]!r})")
    return bundle


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: cannot be read: it is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _DAMAGE as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise InputError(f"{path}: is not an exported study ({reason})") from None


def _whole(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member of at most so many bytes, whatever it says of its size."""
    with archive.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} is longer than {most} bytes")
    return data


def _parsed(text: bytes) -> Any:
    return json.loads(text, parse_constant=_no_number)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


@dataclass(frozen=True)
class _Rows:
    """The trials' lines of a zip file, read anew for each iteration."""

    path: Path

    def __iter__(self) -> Iterator[Any]:
        with _opened(self.path) as archive, archive.open(TRIALS) as stream:
            while line := stream.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise ValueError(f"a line of {TRIALS} is longer than {MOST_LINE} bytes")
                yield _parsed(line)


def _file(path: Path, note: Artifact) -> bytes | None:
    """The bytes of a file; None where it is missing, damaged, or not of the size that is noted."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(FOLDER + note.path)
            return _whole(archive, member.filename, note.bytes) if member.file_size == note.bytes else None
    except (OSError, *_DAMAGE):
        return None
