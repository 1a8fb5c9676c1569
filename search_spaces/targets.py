"""Targets in the user's arrays, by the kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.terms import TaskKind

Targets = tuple[dict[str, np.ndarray], tuple[str, ...]]


def kind_of(given: Any, where: str) -> TaskKind:
    """The task kind of this name.

    Raises:
        InputError: naming the available ones.
    """
    if str(given) not in tuple(TaskKind):
        raise InputError(f"{where}: kind = {str(given)!r}: must be one of {', '.join(TaskKind)}")
    return TaskKind(str(given))


def targets_of(raw: Mapping[str, np.ndarray], kind: TaskKind, names: np.ndarray | None, where: str) -> Targets:
    """Targets as a ``Task`` holds them, and the names of values, labels or classes; classification apart.

    Args:
        raw: arrays ``(n, ...)`` by split.
        kind: not a classification.
        names: given by the user, if any.
        where: names the arrays in errors.

    Raises:
        InputError: saying which shape and values are allowed.
    """
    if kind in (TaskKind.REGRESSION, TaskKind.MULTI_LABEL):
        found = {key: _columns(y, f"{where}: y{key}") for key, y in raw.items()}
        widths = {y.shape[1] for y in found.values()}
    else:
        found = {key: _whole(y, kind, f"{where}: y{key}") for key, y in raw.items()}
        widths = {int(max(y.max() for y in found.values())) + 1}
    if len(widths) != 1:
        raise InputError(f"{where}: targets of the splits have {sorted(widths)} columns, must have as many")
    (width,) = widths
    if kind is TaskKind.RECONSTRUCTION:
        for key, y in found.items():
            if y.ndim == 2:
                check_recordings(f"{where}: y{key}", y)
        return found, ("normal", "abnormal")
    usual = ["nothing" if kind is TaskKind.GRID and not index else str(index) for index in range(width)]
    given = usual if names is None else [str(name) for name in np.asarray(names).ravel()]
    if len(given) < width:
        raise InputError(f"{where}: classes names {len(given)}, must name {width}")
    return found, tuple(given)


def check_recordings(where: str, y: np.ndarray) -> None:
    """Refuse a recording, ``y[:, 1]``, that is both normal and abnormal."""
    recordings, labels = np.unique(np.unique(y, axis=0)[:, 1], return_counts=True)
    if (labels > 1).any():
        raise InputError(
            f"{where}: recording {int(recordings[labels > 1][0])} has samples of both labels, must have one"
        )


def _columns(y: np.ndarray, where: str) -> np.ndarray:
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or y.dtype.kind not in "biuf" or not y.shape[1]:
        raise InputError(f"{where}: is {y.dtype} {y.shape}, must be numbers (n,) or (n, values)")
    return y.astype(np.float32)


def _whole(y: np.ndarray, kind: TaskKind, where: str) -> np.ndarray:
    whole = y.dtype.kind in "biu" or (y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.round(y)).all())
    fits = y.ndim == 3 if kind is TaskKind.GRID else y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 2)
    if not fits or not whole or not y.size:
        shape = "(n, rows, columns)" if kind is TaskKind.GRID else "(n,), or (n, 2) with the recording's number"
        raise InputError(f"{where}: is {y.dtype} {y.shape}, must be whole numbers {shape}")
    return y.astype(np.int64)
