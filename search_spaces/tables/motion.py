"""Shoulder exercises recorded by a smart watch: windows of six axes at 50 Hz, split by subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source
from search_spaces.tasks.images import packaged_file
from search_spaces.tasks.pickled import read_pickle
from search_spaces.tasks.splits import grouped_split
from search_spaces.tasks.task import Task, assemble

WINDOW = 100
STRIDE = 50
VAL_SHARE, TEST_SHARE = 0.15, 0.2
FIELDS = {"X", "y", "y_labels", "subject"}


def watch(data: str | None = None, held_out: int = 0, window: int = WINDOW, stride: int = STRIDE) -> Task:
    """Seven shoulder exercises of ten subjects, as windows of 2 s: acceleration and rotation, three axes each.

    Args:
        data: ``watch_dataset.npy``, or the folder it lies in; that of the installed seglearn when absent.
        held_out: the test subject, 1 to 10; the next one is for validation; 0 uses a fifth of the samples for test,
            again by whole subjects.
        window, stride: samples of a window and from one to the next.

    Raises:
        InputError: when the file is missing or damaged, or the subject does not exist.
    """
    path = _file(data)
    recordings, labels, subjects, names = _recordings(path)
    if not 2 <= window <= 1000 or not 1 <= stride <= 1000:
        raise InputError(f"task 'watch': window = {window}, stride = {stride}: must be 2 to 1000 and 1 to 1000")
    pieces, y, groups = [], [], []
    for recording, label, subject in zip(recordings, labels, subjects, strict=True):
        cut = _windows(recording, window, stride)
        pieces.append(cut)
        y += [label] * len(cut)
        groups += [f"{subject:02d}"] * len(cut)
    x, y_all, group_of = np.concatenate(pieces), np.array(y, np.int64), np.array(groups)
    val, test, train = _split(y_all, group_of, held_out)
    splits = {name: (x[chosen], y_all[chosen]) for name, chosen in (("train", train), ("val", val), ("test", test))}
    return assemble(
        "watch",
        splits,
        names,
        groups_test=group_of[test],
        augment="jitter",
        citation="Burns et al., Shoulder physiotherapy exercise recognition, arXiv 1802.01489; the samples of seglearn",
        licence="BSD-3-Clause (seglearn)",
    )


def watch_source(data: str | None = None, **_: object) -> Source:
    """What :func:`watch` reads."""
    return Source("1", (_file(data),))


def _file(data: str | None) -> Path:
    if data is None:
        return packaged_file("seglearn", "data/watch_dataset.npy", "watch")
    place = user_path(data)
    path = place / "watch_dataset.npy" if place.is_dir() else place
    if not path.is_file():
        raise InputError(
            f"task 'watch': task.data = {data!r}: has no watch_dataset.npy; `pip install seglearn` brings it"
        )
    return path


def _recordings(path: Path) -> tuple[list[np.ndarray], list[int], list[int], tuple[str, ...]]:
    """Recordings ``(samples, 6)``, their labels and subjects, and the names of the labels."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            content = file.read()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is not a .npy file: {error}") from None
    table = read_pickle(content, path) if shape == () and dtype.hasobject else None
    table = table.item() if isinstance(table, np.ndarray) and table.shape == () else table
    if not isinstance(table, dict) or not table.keys() >= FIELDS:
        raise InputError(f"{path}: must hold a dictionary of {', '.join(sorted(FIELDS))}")
    recordings = [np.asarray(recording, np.float32) for recording in table["X"]]
    labels, subjects = (np.asarray(table[name]).astype(int).tolist() for name in ("y", "subject"))
    if not len(recordings) == len(labels) == len(subjects) or any(part.shape[1:] != (6,) for part in recordings):
        raise InputError(f"{path}: needs a label and a subject for every recording of six axes")
    return recordings, labels, subjects, tuple(map(str, table["y_labels"]))


def _windows(recording: np.ndarray, window: int, stride: int) -> np.ndarray:
    """Windows ``(n, 6, window, 1)``; what is left at the end is too short and goes."""
    if len(recording) < window:
        return np.zeros((0, 6, window, 1), np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(recording, window, axis=0)[::stride]
    return np.ascontiguousarray(cut[..., None])


def _split(y: np.ndarray, groups: np.ndarray, held_out: int) -> list[np.ndarray]:
    if held_out == 0:
        return grouped_split(y, groups, [round(len(y) * VAL_SHARE), round(len(y) * TEST_SHARE)])
    subjects = np.unique(groups).tolist()
    wanted = f"{held_out:02d}"
    if wanted not in subjects:
        raise InputError(f"task 'watch': held_out = {held_out}: must be 0 or one of {', '.join(subjects)}")
    at = subjects.index(wanted)
    val, test = groups == subjects[(at + 1) % len(subjects)], groups == wanted
    return [np.flatnonzero(part) for part in (val, test, ~val & ~test)]
