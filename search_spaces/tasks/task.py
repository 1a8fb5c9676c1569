"""A task: labelled samples in three disjoint splits, and the preprocessing of a sample to the network's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.front_end import FrontEnd
from mcu.terms import Augmentation, TaskKind
from search_spaces.targets import check_recordings
from search_spaces.tasks.rows import Rows, chunks
from search_spaces.tasks.splits import sample_hashes, stratified_subset, without_leaks
from search_spaces.tasks.store import kept_rows

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Task:
    """Samples and targets; validation data select models, test data are for the final report.

    Attributes:
        input_shape: channels, height, width. A spectrogram is ``(1, frames, coefficients)``, a recording of
            several sensors ``(sensors, samples, 1)``.
        classes: label names; label ``i`` means ``classes[i]``. Names of the values where ``kind`` is a regression.
        x_train: uint8 or float32 ``(n, channels, height, width)``, memory-mapped or not; the other splits likewise.
        y_train: by ``kind``, the other splits likewise: class numbers int64 ``(n,)``; float32 ``(n, labels)`` of 0 and
            1; float32 ``(n, values)``; int64 ``(n,)`` of 0 (normal) and 1 (abnormal, none in training) where the sample
            is to be reconstructed, or ``(n, 2)`` of these and the number of the recording that the sample is part of;
            int64 ``(n, rows, columns)`` of class numbers, 0 where there is nothing.
        normalise: mean and standard deviation of each channel, for uint8 samples those of ``x / 255``.
        augment: data augmentation of training batches, a value of `mcu.terms.Augmentation`.
        dropped: samples removed from a split because they occur in a later one.
        groups_test: texts ``(n,)``, source of each test sample (speaker, subject), if known; no
            group of the test split is in another split.
        front_end: front end that computed the samples, for audio tasks.
        notes: remarks for readers of its results: skipped files, how labels were read.
        verified: the samples were validated when they were cached, and are not validated again.

    Raises:
        InputError: when a shape, type, range or label is invalid, or a class is missing from a split.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    normalise: tuple[tuple[float, ...], tuple[float, ...]]
    augment: str = "none"
    citation: str = ""
    licence: str = ""
    dropped: int = 0
    groups_test: np.ndarray | None = None
    front_end: FrontEnd | None = None
    notes: tuple[str, ...] = ()
    verified: bool = False
    kind: TaskKind = TaskKind.CLASSIFICATION

    @property
    def outputs(self) -> int:
        """Channels of the network's output: classes, labels, values, or the number of input values."""
        return int(np.prod(self.input_shape)) if self.kind is TaskKind.RECONSTRUCTION else len(self.classes)

    @property
    def cells(self) -> tuple[int, ...]:
        """Rows and columns of a grid; nothing for other kinds."""
        return tuple(self.y_train.shape[1:]) if self.kind is TaskKind.GRID else ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", TaskKind(self.kind))
        if len(self.classes) < (1 if self.kind in (TaskKind.REGRESSION, TaskKind.MULTI_LABEL) else 2):
            raise InputError(f"task {self.name!r}: has {len(self.classes)} class, needs at least 2")
        if self.augment not in list(Augmentation):
            raise InputError(
                f"task {self.name!r}: augment = {self.augment!r}: must be one of {', '.join(Augmentation)}"
            )
        if self.kind is TaskKind.GRID and self.augment not in (Augmentation.NONE, Augmentation.JITTER):
            raise InputError(
                f"task {self.name!r}: augment = {self.augment!r}: moves samples and not the cells that are their "
                f"targets; allowed are {Augmentation.NONE}, {Augmentation.JITTER}"
            )
        for split, x, y in self.splits():
            _check_split(f"task {self.name!r}: {split}", self, x, y)
        if self.groups_test is not None and self.groups_test.shape != self.y_test.shape[:1]:
            raise InputError(
                f"task {self.name!r}: groups_test must have shape {self.y_test.shape[:1]}, one text a sample"
            )
        mean, std = self.normalise
        channels = self.input_shape[0]
        if len(mean) != channels or len(std) != channels or not all(np.isfinite(mean)) or not min(std) > 0:
            raise InputError(
                f"task {self.name!r}: normalise needs {channels} finite means and {channels} positive deviations"
            )

    def splits(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, samples and labels of each split."""
        for split in SPLITS:
            yield split, getattr(self, f"x_{split}"), getattr(self, f"y_{split}")

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Samples as network inputs: float32, scaled from uint8, normalised channel by channel."""
        mean, std = (np.asarray(values, np.float32).reshape(-1, 1, 1) for values in self.normalise)
        scale = np.float32(1 / 255) if x.dtype == np.uint8 else np.float32(1)
        return (x.astype(np.float32) * scale - mean) / std

    def counts(self) -> dict[str, list[int]]:
        """Samples of each class in each split; cells of each in a grid; with a label; all of them for values."""

        def of(y: np.ndarray) -> list[int]:
            if self.kind is TaskKind.REGRESSION:
                return [len(y)] * len(self.classes)
            if self.kind is TaskKind.MULTI_LABEL:
                return [int(count) for count in y.sum(axis=0)]
            return [int(count) for count in np.bincount(labels_of(y, self.kind).ravel(), minlength=len(self.classes))]

        return {split: of(y) for split, _, y in self.splits()}


def labels_of(y: np.ndarray, kind: TaskKind) -> np.ndarray:
    """Class numbers of targets, without the recordings that samples to be reconstructed are parts of."""
    return y[:, 0] if kind is TaskKind.RECONSTRUCTION and y.ndim == 2 else y


def _check_split(where: str, task: Task, x: np.ndarray, y: np.ndarray) -> None:
    if x.dtype not in (np.uint8, np.float32):
        raise InputError(f"{where}: samples are {x.dtype}, must be uint8 or float32")
    if x.shape[1:] != task.input_shape:
        raise InputError(f"{where}: samples have shape {x.shape[1:]}, must be {task.input_shape}")
    _check_targets(where, task, y, len(x))
    if not task.verified:
        check_finite(where, x)


def _check_targets(where: str, task: Task, y: np.ndarray, count: int) -> None:
    if task.kind in (TaskKind.REGRESSION, TaskKind.MULTI_LABEL):
        if y.dtype != np.float32 or y.shape != (count, len(task.classes)):
            shape = (count, len(task.classes))
            raise InputError(f"{where}: targets are {y.dtype} {y.shape}, must be float32 of shape {shape}")
        if not np.isfinite(y).all():
            raise InputError(f"{where}: targets hold NaN or infinity")
        if task.kind is TaskKind.MULTI_LABEL and not np.isin(y, (0, 1)).all():
            raise InputError(f"{where}: targets of several labels must be 0 or 1")
        if task.kind is TaskKind.MULTI_LABEL and not (found := y.any(axis=0)).all():
            missing = int(np.argmin(found))
            raise InputError(f"{where}: has no sample of label {missing} ({task.classes[missing]})")
        if task.kind is TaskKind.REGRESSION and (steady := (y == y[:1]).all(axis=0)).any():
            at = int(np.argmax(steady))
            raise InputError(f"{where}: target {task.classes[at]} is {y[0, at]:g} throughout: there is nothing to tell")
        return
    axes = 3 if task.kind is TaskKind.GRID else 1
    if task.kind is TaskKind.RECONSTRUCTION and y.shape == (count, 2):
        check_recordings(where, y)
        y = labels_of(y, task.kind)
    if y.dtype != np.int64 or y.ndim != axes or len(y) != count:
        wanted = f"({count}, rows, columns)" if axes == 3 else f"({count},)"
        raise InputError(f"{where}: labels are {y.dtype} {y.shape}, must be int64 of shape {wanted}")
    if len(y) and (y.min() < 0 or y.max() >= len(task.classes)):
        raise InputError(f"{where}: labels go from {y.min()} to {y.max()}, must be 0 to {len(task.classes) - 1}")
    counts = np.bincount(y.ravel(), minlength=len(task.classes))
    training = where.endswith("train")
    if task.kind is TaskKind.RECONSTRUCTION and training:
        if counts[1:].any():
            raise InputError(f"{where}: holds abnormal samples; a network learns from normal ones alone")
        return
    if not counts.all():
        missing = int(np.flatnonzero(counts == 0)[0])
        raise InputError(f"{where}: has no sample of label {missing} ({task.classes[missing]})")


def check_finite(where: str, x: np.ndarray | Rows) -> None:
    """Refuse NaN and infinity in samples ``(n, ...)``, naming the first sample that has one.

    Raises:
        InputError: starting with ``where``.
    """
    start = 0
    for chunk in chunks(x):
        if chunk.dtype.kind != "f":
            return
        finite = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite.all():
            raise InputError(f"{where}: sample {start + int(np.argmin(finite))} holds NaN or infinity")
        start += len(chunk)


def measured_normalisation(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of ``(n, channels, height, width)``, of ``x / 255`` for uint8.

    A constant channel gets deviation 1. Works in chunks: ``x`` may be larger than memory.
    """
    total, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for chunk in chunks(x):
        if x.dtype == np.uint8:
            values = np.arange(256) / 255
            counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in chunk.swapaxes(0, 1)])
            total += counts @ values
            squares += counts @ values**2
        else:
            total += chunk.sum(axis=(0, 2, 3), dtype=np.float64)
            squares += np.square(chunk, dtype=np.float64).sum(axis=(0, 2, 3))
    count = max(x.size // x.shape[1], 1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    steady = std <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return tuple(mean.tolist()), tuple(np.where(steady, 1.0, std).tolist())


def assemble(
    name: str,
    splits: Mapping[str, tuple[np.ndarray | Rows, np.ndarray]],
    classes: tuple[str, ...],
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    groups_test: np.ndarray | None = None,
    hashes: Mapping[str, np.ndarray] | None = None,
    **described: Any,
) -> Task:
    """A task of three splits; a sample that recurs in a later split is dropped from the earlier one.

    Args:
        splits: samples and labels by split name; large ``Rows`` end up in a mapped file of the cache.
        normalise: measured on the training split when absent.
        groups_test: who or what each test sample comes from.
        hashes: by which samples recur; of the samples themselves when absent.
        described: ``augment``, ``citation``, ``licence``, ``front_end``, ``notes``.
    """
    known = [hashes[split] if hashes is not None else sample_hashes(splits[split][0]) for split in SPLITS]
    kept = without_leaks(known)
    dropped = sum(len(of_split) - len(index) for of_split, index in zip(known, kept, strict=True))
    fields: dict[str, Any] = {}
    for split, index in zip(SPLITS, kept, strict=True):
        x, y = splits[split]
        rows = x if isinstance(x, Rows) else Rows(x)
        whole = len(index) == len(rows)
        fields |= {f"x_{split}": kept_rows(rows if whole else rows.take(index)), f"y_{split}": y if whole else y[index]}
    x = fields["x_train"]
    if described.get("kind", TaskKind.CLASSIFICATION) is TaskKind.CLASSIFICATION:
        contrary = _contradictions(np.concatenate(known), np.concatenate([splits[split][1] for split in SPLITS]))
        told = (f"{contrary:,} samples are equal to one of another class",) if contrary else ()
        described["notes"] = (*described.get("notes", ()), *told)
    return Task(
        name=name,
        input_shape=tuple(x.shape[1:]),
        classes=classes,
        normalise=normalise or measured_normalisation(x),
        dropped=dropped,
        groups_test=None if groups_test is None else groups_test.astype(str)[kept[-1]],
        **fields,
        **described,
    )


def _contradictions(hashes: np.ndarray, y: np.ndarray) -> int:
    """Samples that there are with several labels."""
    order = np.lexsort((y, hashes["low"], hashes["high"]))
    first = np.flatnonzero(np.r_[True, hashes[order][1:] != hashes[order][:-1]])
    lowest, highest = (edge.reduceat(y[order], first) for edge in (np.minimum, np.maximum))
    return int(np.diff(np.r_[first, len(y)])[lowest != highest].sum())


def limited(task: Task, limits: Mapping[str, int], *, by_place: bool = False) -> Task:
    """The task with at most ``limits[split]`` samples per split, classes in proportion.

    Args:
        by_place: whether a sample's place in the split decides instead of its content, so that tasks that differ in the
            front end alone keep the same samples.

    Raises:
        InputError: when a limit does not leave a sample for every class.
    """
    fields: dict[str, Any] = {}
    for split, x, y in task.splits():
        limit = limits.get(split)
        if limit is None or limit >= len(y):
            continue
        if limit < len(task.classes):
            raise InputError(
                f"task {task.name!r}: {split}_limit = {limit}: must be at least {len(task.classes)}, one a class"
            )
        labels = labels_of(y, task.kind)
        strata = labels if labels.ndim == 1 and labels.dtype.kind == "i" else np.zeros(len(y), np.int64)
        index = stratified_subset(strata, sample_hashes(np.arange(len(y))[:, None] if by_place else x), limit)
        fields |= {f"x_{split}": kept_rows(Rows(x).take(index)), f"y_{split}": y[index]}
        if split == "test" and task.groups_test is not None:
            fields["groups_test"] = task.groups_test[index]
    return replace(task, **fields) if fields else task
