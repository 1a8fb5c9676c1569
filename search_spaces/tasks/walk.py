"""Recursive listing of a folder in a fixed order: follows links, skips names that begin with a dot, opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYSTEM = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""What operating systems leave in folders and archives."""


@dataclass(frozen=True)
class Entry:
    """An entry of a folder.

    Attributes:
        name: relative to the folder, with ``/``.
        state: of the file; None for other entries: a broken link, a pipe, a socket, a device.
    """

    name: str
    path: Path
    state: os.stat_result | None


def is_hidden(name: str) -> bool:
    """Whether a name in a folder is hidden or a system file."""
    return name.startswith(".") or name.lower() in SYSTEM


def entries_below(folder: Path) -> Iterator[Entry]:
    """All entries below a folder except folders: first its own, by name, then folder by folder.

    Raises:
        OSError: if a folder cannot be listed.
    """
    yield from _entries(folder, folder, frozenset())


def _entries(root: Path, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:  # a link to a folder that it lies in
        return
    folders = []
    for name in sorted(name for name in os.listdir(folder) if not is_hidden(name)):
        path = folder / name
        if path.is_dir():
            folders.append(path)
        else:
            yield Entry(path.relative_to(root).as_posix(), path, _file_state(path))
    for inner in folders:
        yield from _entries(root, inner, above | {here})


def _file_state(path: Path) -> os.stat_result | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state if stat.S_ISREG(state.st_mode) else None
