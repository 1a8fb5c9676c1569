"""Atomic file writes: a file is complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside the file: renamed to it on success, deleted on an error.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):  # on a read-only file system even what is not there cannot be removed
            partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file atomically, with the permissions of the user's umask; missing folders are created.

    Raises:
        OSError: it cannot be written; the old file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
