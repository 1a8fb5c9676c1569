"""The user's own arrays: an .npz of ``x`` and ``y``, or of splits the user made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.terms import TaskKind
from search_spaces.paths import user_path
from search_spaces.targets import kind_of, targets_of
from search_spaces.tasks.digest import Source
from search_spaces.tasks.labels import read_labels
from search_spaces.tasks.npz import read_arrays
from search_spaces.tasks.rows import Rows
from search_spaces.tasks.splits import grouped_split, sample_hashes, stratified_split
from search_spaces.tasks.task import SPLITS, Task, assemble, check_finite, labels_of

Splits = dict[str, tuple[Rows, np.ndarray]]

VAL_SHARE, TEST_SHARE = 0.15, 0.15
ALLOWED = (
    "x and y with or without groups, or x_train, y_train, x_test, y_test with or without x_val, y_val; "
    "and classes, layout"
)
MOST_COLOURS = 4
MOST_SENSORS = 12
LONG = 8
"""A grey image is not so many times as long as it is wide."""
LAYOUTS = {
    "nf": (2, lambda x: x[:, :, None, None]),
    "nchw": (4, lambda x: x),
    "nhwc": (4, lambda x: x.transpose(0, 3, 1, 2)),
    "nhw": (3, lambda x: x[:, None]),
    "nct": (3, lambda x: x[..., None]),
    "ntc": (3, lambda x: x.transpose(0, 2, 1)[..., None]),
}


def arrays(
    path: str | None = None,
    layout: str | None = None,
    augment: str = "none",
    name: str = "arrays",
    kind: str | None = None,
) -> Task:
    """A task from an .npz file or a folder of .npy files.

    It holds ``x`` and ``y`` (split 70/15/15) or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and perhaps ``x_val``,
    ``y_val`` (else taken from training). Labels are integers, texts, booleans or one-hot; ``classes`` may name them,
    counted from 0, and ``layout`` give the axes of x. With ``groups``, one text or integer per sample (its person,
    machine or day), no group is in two splits. Large arrays are memory-mapped and never loaded as a whole.

    Args:
        path: the file or folder.
        layout: axes of a sample array: ``nchw`` (the default for four axes), ``nhwc``, ``nhw`` (the default for three),
            ``nct`` or ``ntc`` for recordings over time, ``nf`` (the default for two) for vectors. An ambiguous shape is
            refused until a layout is given.
        augment: data augmentation of training batches.
        name: of the task in reports.
        kind: meaning of y: ``classification`` unless an entry ``kind`` beside x says otherwise; ``multi-label`` (0 or 1
            for each label), ``regression`` (numbers), ``reconstruction`` (0 normal, 1 abnormal;
            beside it, in a second column, the number of the recording it is part of, if any) or ``grid`` (a class for
            each cell).

    Raises:
        InputError: naming the file, the array and what is allowed.
    """
    place = _place(path)
    return from_arrays(read_arrays(place), str(path), layout, augment, name, kind)


def arrays_source(path: str | None = None, **_: object) -> Source:
    """What :func:`arrays` reads."""
    return Source("2", (_place(path),))


def _place(path: str | None) -> Path:
    if path is None:
        raise InputError(
            "task 'arrays': task.path is missing: name an .npz file or a folder of .npy files with " + ALLOWED
        )
    place = user_path(path)
    if not place.is_file() and not place.is_dir():
        raise InputError(f"task 'arrays': task.path = {path!r}: no such file or folder")
    return place


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    where: str,
    layout: str | None = None,
    augment: str = "none",
    name: str = "arrays",
    kind: str | None = None,
) -> Task:
    """A task from arrays by name, as :func:`arrays` reads them; ``where`` names them in errors."""
    keys = set(arrays) - {"classes", "layout", "kind"}
    chosen = kind_of(kind or arrays.get("kind", TaskKind.CLASSIFICATION), where)
    layout = str(arrays["layout"]) if layout is None and "layout" in arrays else layout
    for split in SPLITS:
        if (f"x_{split}" in keys) != (f"y_{split}" in keys):
            raise InputError(f"{where}: x_{split} and y_{split} belong together: allowed are {ALLOWED}")
    if keys not in _KEY_SETS:
        raise InputError(f"{where}: holds {', '.join(sorted(arrays)) or 'nothing'}: allowed are {ALLOWED}")
    names = [""] if "x" in keys else [f"_{split}" for split in SPLITS if f"x_{split}" in keys]
    x = {key: _samples(arrays[f"x{key}"], layout, f"{where}: x{key}") for key in names}
    groups = _groups(np.asarray(arrays["groups"]), len(x[""]), f"{where}: groups") if "groups" in keys else None
    targets = {key: np.asarray(arrays[f"y{key}"]) for key in names}
    labels, classes, notes = _labels(targets, x, chosen, arrays, where)
    try:
        splits, groups_test = _splits(x, labels, groups, chosen)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    citation = f"the user's arrays, {Path(where).name}"
    return assemble(
        name, splits, classes, groups_test=groups_test, augment=augment, citation=citation, notes=notes, kind=chosen
    )


def _labels(
    y: Mapping[str, np.ndarray], x: Mapping[str, Rows], kind: TaskKind, arrays: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...], tuple[str, ...]]:
    """Targets by split, the names of the classes, and what is to be said of how labels were read."""
    if kind is not TaskKind.CLASSIFICATION:
        for key, targets in y.items():
            if targets.ndim == 0 or len(targets) != len(x[key]):
                raise InputError(
                    f"{where}: y{key} has shape {targets.shape}, must be one target for each of {len(x[key]):,}"
                )
        return *targets_of(dict(y), kind, arrays.get("classes"), where), ()
    raw = {key: _one_each(labels, len(x[key]), f"{where}: y{key}") for key, labels in y.items()}
    given = None if "classes" not in arrays else [str(value) for value in np.asarray(arrays["classes"]).ravel()]
    read = read_labels(np.concatenate(list(raw.values())), where, given)
    ends = np.cumsum([len(labels) for labels in raw.values()])[:-1]
    notes = (read.note,) if read.note else ()
    return dict(zip(raw, np.split(read.y, ends), strict=True)), read.classes, notes


_KEY_SETS = (
    {"x", "y"},
    {"x", "y", "groups"},
    {"x_train", "y_train", "x_test", "y_test"},
    {"x_train", "y_train", "x_val", "y_val", "x_test", "y_test"},
)


def _samples(x: np.ndarray, layout: str | None, where: str) -> Rows:
    x = x if isinstance(x, np.ndarray) else np.asarray(x)
    if layout is None:
        _check_likely(x.shape, where)
    layout = layout or {2: "nf", 3: "nhw", 4: "nchw"}.get(x.ndim, "nchw")
    if layout not in LAYOUTS:
        raise InputError(f"{where}: layout = {layout!r}: must be one of {', '.join(LAYOUTS)}")
    axes, arrange = LAYOUTS[layout]
    if x.ndim != axes or 0 in x.shape:
        raise InputError(f"{where}: has shape {x.shape}, layout {layout} needs {axes} axes, none of them empty")
    if x.dtype.kind not in "iuf":
        raise InputError(f"{where}: is {x.dtype}, must be whole or floating numbers")
    dtype = np.uint8 if x.dtype == np.uint8 else np.float32
    if layout == "nchw" and x.dtype == dtype and x.flags.c_contiguous:
        rows = Rows(x)
    else:
        rows = Rows(x, _converter(arrange, dtype))
    check_finite(where, rows)
    return rows


def _check_likely(shape: tuple[int, ...], where: str) -> None:
    """Ask about a shape that more likely has other axes than those taken without ``layout``.

    Channels are the shortest axis as a rule, and recordings much longer than they have sensors.
    """
    meant = None
    if len(shape) == 4 and shape[1] > MOST_COLOURS >= shape[3] and (shape[3] > 2 or shape[1] >= shape[2]):
        meant = f"nhwc, which makes images of {shape[1]}x{shape[2]} with {shape[3]} channels"
        taken = f"nchw, {shape[1]} channels of {shape[2]}x{shape[3]}"
    elif len(shape) == 3 and min(shape[1:]) <= MOST_SENSORS and max(shape[1:]) >= LONG * min(shape[1:]):
        name = "nct" if shape[1] < shape[2] else "ntc"
        meant = f"{name}, which makes {max(shape[1:])} samples over time of {min(shape[1:])} sensors"
        taken = f"nhw, images of {shape[1]}x{shape[2]}"
    if meant is not None:
        raise InputError(
            f"{where}: has shape {shape}: is its layout {meant}, or {taken}? "
            "say it: options.layout, or an entry layout beside x"
        )


def _converter(arrange: Callable[[np.ndarray], np.ndarray], dtype: type) -> Callable[[np.ndarray], np.ndarray]:
    def convert(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(arrange(x).astype(dtype, copy=False))

    return convert


def _groups(groups: np.ndarray, count: int, where: str) -> np.ndarray:
    if groups.shape != (count,) or groups.dtype.kind not in "iuU":
        raise InputError(f"{where}: is {groups.dtype} {groups.shape}, must be ({count},) texts or whole numbers")
    return groups.astype(str)


def _one_each(y: np.ndarray, count: int, where: str) -> np.ndarray:
    if y.ndim not in (1, 2) or len(y) != count:
        raise InputError(f"{where}: has shape {y.shape}, must be ({count},), one label a sample, or one-hot")
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _strata(targets: np.ndarray, kind: TaskKind) -> np.ndarray:
    """What is spread evenly over the splits: class numbers; nothing else is."""
    labels = labels_of(targets, kind)
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def _splits(
    x: Mapping[str, Rows], y: Mapping[str, np.ndarray], groups: np.ndarray | None, kind: TaskKind
) -> tuple[Splits, np.ndarray | None]:
    """Samples and labels by split, and the groups of the test samples."""
    if "" in x:
        samples, labels = x[""], y[""]
        sizes = [round(len(labels) * VAL_SHARE), round(len(labels) * TEST_SHARE)]
        strata = _strata(labels, kind)
        recordings = labels[:, 1] if kind is TaskKind.RECONSTRUCTION and labels.ndim == 2 else None
        together = recordings if groups is None else groups
        if together is None:
            val, test, train = stratified_split(strata, sample_hashes(samples), sizes)
        else:
            val, test, train = grouped_split(strata, together, sizes)
        if kind is TaskKind.RECONSTRUCTION:  # a network learns from normal samples alone
            abnormal, train = train[strata[train] > 0], train[strata[train] == 0]
            turn = np.arange(len(abnormal))
            if recordings is not None:
                turn = np.unique(recordings[abnormal], return_inverse=True)[1]
            val, test = np.sort([*val, *abnormal[turn % 2 == 0]]), np.sort([*test, *abnormal[turn % 2 == 1]])
        index = {"train": train, "val": val, "test": test}
        splits = {split: (samples.take(chosen), labels[chosen]) for split, chosen in index.items()}
        return splits, None if groups is None else groups[test]
    splits = {split: (x[f"_{split}"], y[f"_{split}"]) for split in SPLITS if f"_{split}" in x}
    if "val" not in splits:
        samples, labels = splits["train"]
        val, train = stratified_split(_strata(labels, kind), sample_hashes(samples), [round(len(labels) * VAL_SHARE)])
        splits |= {"train": (samples.take(train), labels[train]), "val": (samples.take(val), labels[val])}
    return splits, None
