"""Samples that may be larger than memory: read in chunks, selected and converted on access."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

CHUNK_BYTES = 4 * 2**20


def as_they_are(x: np.ndarray) -> np.ndarray:
    """The identity conversion."""
    return x


@dataclass(frozen=True)
class Rows:
    """Rows of an array (possibly memory-mapped) in a given order, converted on access.

    Attributes:
        source: array whose first axis is the sample index.
        convert: applied to a few rows at a time; must treat every row independently.
        index: which rows, in order; None for all.
    """

    source: np.ndarray
    convert: Callable[[np.ndarray], np.ndarray] = as_they_are
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source) if self.index is None else len(self.index)

    @property
    def pattern(self) -> np.ndarray:
        """An empty array with the shape and type of the converted rows."""
        return self.convert(self.source[:0])

    @property
    def nbytes(self) -> int:
        """Bytes of all rows after conversion."""
        pattern = self.pattern
        return len(self) * pattern.dtype.itemsize * int(np.prod(pattern.shape[1:], dtype=np.int64))

    def take(self, index: np.ndarray) -> Rows:
        """The rows at these indices."""
        return replace(self, index=index if self.index is None else self.index[index])

    def chunks(self) -> Iterator[np.ndarray]:
        """The converted rows, about 4 MB at a time; pages of a mapped file are released after each."""
        row = max(1, self.source[:1].nbytes, self.nbytes // max(1, len(self)))
        count = max(1, CHUNK_BYTES // row)
        for start in range(0, len(self), count):
            place = slice(start, start + count)
            yield self.convert(self.source[place if self.index is None else self.index[place]])
            release(self.source)

    def array(self) -> np.ndarray:
        """All rows in memory; the source itself if nothing is selected or converted."""
        if self.index is None and self.convert is as_they_are:
            return self.source
        pattern = self.pattern
        filled = np.empty((len(self), *pattern.shape[1:]), pattern.dtype)
        start = 0
        for chunk in self.chunks():
            filled[start : start + len(chunk)] = chunk
            start += len(chunk)
        return filled


def chunks(x: np.ndarray | Rows) -> Iterator[np.ndarray]:
    """An array's rows, or those of ``Rows``, about 4 MB at a time."""
    return (x if isinstance(x, Rows) else Rows(x)).chunks()


def mapping_of(x: np.ndarray) -> np.memmap | None:
    """The memory-mapped file behind an array, or None."""
    base: object = x
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and not isinstance(base.base, np.ndarray):
            return base
        base = base.base
    return None


def release(x: np.ndarray) -> None:
    """Release the pages of a memory-mapped array; the system reads them again on access."""
    mapped = mapping_of(x)
    if mapped is not None and isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.base.madvise(mmap.MADV_DONTNEED)
