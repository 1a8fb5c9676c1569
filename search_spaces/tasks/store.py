"""Store of large or expensive arrays: memory-mapped files in the cache folder, named by their content."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.rows import Rows, as_they_are, chunks, mapping_of

NOWHERE = Path(os.devnull) / "mcusweep"

LARGE = 64 * 2**20
"""Chosen rows of more bytes than this are kept in a file and not in memory."""


def cache_folder() -> Path:
    """Folder of data kept between runs: ``MCUSWEEP_CACHE``, ``XDG_CACHE_HOME``/mcusweep or ~/.cache/mcusweep.

    The folder may be removed at any time: its content is regenerated. If the home folder is unknown, the path is not
    writable, and no cache is used.
    """
    if chosen := os.environ.get("MCUSWEEP_CACHE"):
        return user_path(chosen)
    usual = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return NOWHERE if usual.parts[:1] == ("~",) else usual / "mcusweep"


def placed_cache() -> Path:
    """The cache folder, for callers that require one.

    Raises:
        InputError: there is no writable folder for it.
    """
    if cache_folder() == NOWHERE:
        raise InputError("no place for data is known here: set HOME or MCUSWEEP_CACHE to a folder")
    return cache_folder()


def kept_rows(rows: Rows) -> np.ndarray:
    """The rows as one array: in memory, or, if large, in a memory-mapped file of a writable cache."""
    if rows.nbytes > LARGE and (rows.index is not None or rows.convert is not as_they_are):
        try:
            return mapped(stored(rows))
        except OSError:
            return rows.array()
    return rows.array()


def mapped(path: Path) -> np.ndarray:
    """A stored array, mapped. Copy-on-write, so that callers cannot change the file."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def stored(x: np.ndarray | Rows) -> Path:
    """Write an array under the hash of its content, unless it exists."""
    folder = cache_folder() / "arrays"
    if isinstance(x, np.ndarray):
        lies = mapping_of(x)
        if lies is not None and lies.shape == x.shape and Path(str(lies.filename)).parent == folder.resolve():
            return Path(str(lies.filename))
    folder.mkdir(parents=True, exist_ok=True)
    pattern = x.pattern if isinstance(x, Rows) else x[:0]
    header = {
        "descr": np.lib.format.dtype_to_descr(pattern.dtype),
        "fortran_order": False,
        "shape": (len(x), *pattern.shape[1:]),
    }
    digest = blake2b(repr(sorted(header.items())).encode(), digest_size=16)
    partial = folder / f".partial.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        with partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks(x):
                content = np.ascontiguousarray(chunk).tobytes()
                digest.update(content)
                file.write(content)
        target = folder / f"{digest.hexdigest()}.npy"
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
