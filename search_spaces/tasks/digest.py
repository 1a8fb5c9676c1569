"""Digest of a task's data, so that changed data are detected."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mcu.files import write_atomic
from search_spaces.tasks.store import cache_folder
from search_spaces.tasks.walk import entries_below

CHUNK = 2**20
SETTLED_S = 2.0
"""A file changed within the last seconds may change again without its time stamp moving."""


@dataclass(frozen=True)
class Source:
    """The input of a loader.

    Attributes:
        recipe: changes whenever the loader makes different samples from the same files.
        paths: files and folders it reads.
    """

    recipe: str
    paths: tuple[Path, ...] = ()


def digest_of(*parts: object) -> str:
    """32 hexadecimal digits for parts that have an exact JSON form."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def content_digest(path: Path) -> str:
    """Digest of a file's bytes, or of the names and bytes of all files below a folder.

    Names that begin with a dot, and entries that are not files (broken links, pipes), are skipped; an unreadable file
    counts by its name. The digest is cached with every file's size and modification time, so that unchanged files are
    not read again.

    Raises:
        OSError: if something cannot be read.
    """
    files = list(_files(path))
    stamp = digest_of(
        [(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino) for name, _, state in files]
    )
    memory = cache_folder() / "digests" / f"{digest_of(str(path.resolve()))}.json"
    remembered = _remembered(memory, stamp)
    if remembered is not None:
        return remembered
    digest = digest_of([(name, _file_digest(file, alone=not path.is_dir())) for name, file, _ in files])
    newest = max((max(state.st_mtime, state.st_ctime) for _, _, state in files), default=0.0)
    if time.time() - newest > SETTLED_S:
        try:
            write_atomic(memory, json.dumps({"stamp": stamp, "digest": digest}).encode())
        except OSError:
            return digest
    return digest


def _files(path: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    if not path.is_dir():
        yield "", path, path.stat()
        return
    for entry in entries_below(path):
        if entry.state is not None:
            yield entry.name, entry.path, entry.state


def _remembered(memory: Path, stamp: str) -> str | None:
    try:
        entry = json.loads(memory.read_text(encoding="ascii"))
        return str(entry["digest"]) if entry["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file_digest(file: Path, alone: bool) -> str:
    try:
        return _bytes_digest(file)
    except PermissionError:
        if alone:
            raise
        return "not allowed to be read"


def _bytes_digest(file: Path) -> str:
    digest = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while content := stream.read(CHUNK):
            digest.update(content)
    return digest.hexdigest()
