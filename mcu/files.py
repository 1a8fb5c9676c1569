"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, with the permissions that the user's umask leaves.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # on a read-only file system even what is not there cannot be removed
            partial.unlink(missing_ok=True)
        raise
