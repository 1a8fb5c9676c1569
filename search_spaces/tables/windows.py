"""Recordings cut into windows, and windows assigned to splits so that no row is in two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mcu.errors import InputError
from search_spaces.tables.recording import Recording
from search_spaces.tasks.class_folders import split_three_ways
from search_spaces.tasks.rows import Rows
from search_spaces.tasks.splits import sample_hashes

BLOCKS = 20
"""Pieces of a run of rows that are dealt to the splits where there are too few runs to deal whole."""


@dataclass(frozen=True)
class Windows:
    """Windows of ``length`` rows, each within one recording, label and group.

    Attributes:
        values: of all recordings, concatenated, float32 ``(rows, columns)``.
        starts: first row of each window ``(n,)``; the other attributes are per window, too.
        y: class.
        recording: number of its recording.
        run: number of its run: consecutive rows of one recording, label and group.
        place: rows from the beginning of its run, and rows of the run, ``(n, 2)``.
        groups: texts, if known.
        incomplete: windows skipped because of a missing value.
    """

    length: int
    values: np.ndarray
    starts: np.ndarray
    y: np.ndarray
    recording: np.ndarray
    run: np.ndarray
    place: np.ndarray
    groups: np.ndarray | None
    incomplete: int

    def samples(self) -> Rows:
        """``(n, columns, length, 1)``, extracted from the values on access."""
        steps = np.arange(self.length)
        return Rows(self.starts, lambda starts: self.values[starts[:, None] + steps].transpose(0, 2, 1)[..., None])

    def take(self, index: np.ndarray) -> Windows:
        """The windows at these indices."""
        groups = None if self.groups is None else self.groups[index]
        return Windows(
            self.length, self.values, self.starts[index], self.y[index], self.recording[index], self.run[index],
            self.place[index], groups, self.incomplete,
        )  # fmt: skip


def cut(recordings: Sequence[Recording], y: np.ndarray, length: int, stride: int) -> Windows:
    """All windows of recordings.

    Args:
        y: class of every row of all recordings, concatenated; -1 for none.
    """
    sizes = [len(recording.values) for recording in recordings]
    recording_of = np.repeat(np.arange(len(recordings)), sizes)
    values = np.concatenate([recording.values for recording in recordings])
    groups = None
    if recordings[0].groups is not None:
        groups = np.concatenate([recording.groups for recording in recordings if recording.groups is not None])
    changes = (np.diff(recording_of) != 0) | (np.diff(y) != 0)
    if groups is not None:
        changes |= groups[1:] != groups[:-1]
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(y)]])
    starts, run, place = [], [], []
    for number, (first, last) in enumerate(pairwise(edges.tolist())):
        if y[first] >= 0 and last - first >= length:
            inside = np.arange(0, last - first - length + 1, stride)
            starts.append(first + inside)
            run.append(np.full(len(inside), number))
            place.append(np.stack([inside, np.full(len(inside), last - first)], 1))
    if not starts:
        empty = np.zeros(0, np.int64)
        return Windows(length, values, empty, empty, empty, empty, np.zeros((0, 2), np.int64), None, 0)
    first_rows = np.concatenate(starts)
    missing = np.concatenate([[0], np.cumsum(np.isnan(values).any(1))])
    whole = missing[first_rows + length] == missing[first_rows]
    kept = first_rows[whole]
    return Windows(
        length,
        values,
        kept,
        y[kept],
        recording_of[kept],
        np.concatenate(run)[whole],
        np.concatenate(place)[whole],
        None if groups is None else groups[kept],
        int((~whole).sum()),
    )


def deal(windows: Windows, told: np.ndarray) -> tuple[Windows, dict[str, np.ndarray], str]:
    """The windows (without those that overlap a border), their indices in each split, and one line of summary.

    Args:
        told: the split given by the folder of each window's recording ``(n,)``, or "".

    Raises:
        InputError: when groups, or blocks, cannot be assigned so that every split has every class.
    """

    def split(windows: Windows, told: np.ndarray, groups: np.ndarray | None) -> dict[str, np.ndarray]:
        hashes = sample_hashes(windows.samples())
        return split_three_ways(windows.y, hashes, told, groups)

    if windows.groups is not None:
        count = len(np.unique(windows.groups))
        return windows, split(windows, told, windows.groups), f"split by its {count} groups"
    several = len(np.unique(windows.recording)) > 1
    if windows.length == 1 and not several:
        return windows, split(windows, told, None), "split by the hash of the rows"
    units = windows.recording if several else windows.run
    try:
        return (
            windows,
            split(windows, told, units),
            "split by whole recordings" if several else "split by runs of a label",
        )
    except InputError:
        blocks, inside = _blocks(windows)
    kept = windows.take(np.flatnonzero(inside))
    note = (
        f"split by blocks of time, {int((~inside).sum())} windows across their borders left out: recordings are known"
    )
    return kept, split(kept, told[inside], blocks[inside]), note


def _blocks(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Which block of its run a window begins in, and whether it ends there as well."""
    first, rows = windows.place.T
    size = np.maximum(-(-rows // BLOCKS), 2 * windows.length if windows.length > 1 else 1)
    block = first // size
    inside = (first + windows.length - 1) // size == block
    return windows.run * (BLOCKS + 1) + block, inside
