"""The user's own arrays: an .npz of ``x`` and ``y``, or of splits the user made."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.tasks.splits import sample_hashes, stratified_split
from search_spaces.tasks.task import SPLITS, Task, assemble, check_finite

Splits = dict[str, tuple[np.ndarray, np.ndarray]]

VAL_SHARE, TEST_SHARE = 0.15, 0.15
ALLOWED = "x and y, or x_train, y_train, x_test, y_test with or without x_val, y_val; and classes"
LAYOUTS = {
    "nchw": (4, lambda x: x),
    "nhwc": (4, lambda x: x.transpose(0, 3, 1, 2)),
    "nhw": (3, lambda x: x[:, None]),
    "nct": (3, lambda x: x[..., None]),
    "ntc": (3, lambda x: x.transpose(0, 2, 1)[..., None]),
}


def arrays(path: str | None = None, layout: str | None = None, augment: str = "none", name: str = "arrays") -> Task:
    """A task from an .npz file.

    It holds ``x`` and ``y`` (split 70/15/15 here) or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and
    perhaps ``x_val``, ``y_val`` (else carved from training); labels count from 0 or are texts; ``classes``
    may name them.

    Args:
        path: the file.
        layout: axes of a sample array: ``nchw`` (the default for four axes), ``nhwc``, ``nhw`` (the default
            for three), ``nct`` or ``ntc`` for recordings over time.
        augment: how training batches are varied.
        name: of the task in reports.

    Raises:
        InputError: naming the file, the array and what is allowed.
    """
    if path is None:
        raise InputError("task 'arrays': task.path is missing: name an .npz file with " + ALLOWED)
    return from_arrays(_read(Path(path).expanduser()), path, layout, augment, name)


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    where: str,
    layout: str | None = None,
    augment: str = "none",
    name: str = "arrays",
) -> Task:
    """A task from arrays by name, as :func:`arrays` reads them; ``where`` names them in errors."""
    keys = set(arrays) - {"classes"}
    for split in SPLITS:
        if (f"x_{split}" in keys) != (f"y_{split}" in keys):
            raise InputError(f"{where}: x_{split} and y_{split} belong together: allowed are {ALLOWED}")
    if keys not in _KEY_SETS:
        raise InputError(f"{where}: holds {', '.join(sorted(arrays)) or 'nothing'}: allowed are {ALLOWED}")
    names = [""] if "x" in keys else [f"_{split}" for split in SPLITS if f"x_{split}" in keys]
    x = {key: _samples(np.asarray(arrays[f"x{key}"]), layout, f"{where}: x{key}") for key in names}
    raw = {key: _flat_labels(np.asarray(arrays[f"y{key}"]), len(x[key]), f"{where}: y{key}") for key in names}
    labels, classes = _classes(raw, arrays.get("classes"), where)
    try:
        splits = _splits(x, labels)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return assemble(name, splits, classes, augment=augment, citation=f"the user's arrays, {Path(where).name}")


_KEY_SETS = (
    {"x", "y"},
    {"x_train", "y_train", "x_test", "y_test"},
    {"x_train", "y_train", "x_val", "y_val", "x_test", "y_test"},
)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"task 'arrays': task.path = {str(path)!r}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: is a single array, must be an .npz with {ALLOWED}")
            return {key: archive[key] for key in archive.files}
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is not a readable .npz without Python objects: {error}") from None


def _samples(x: np.ndarray, layout: str | None, where: str) -> np.ndarray:
    layout = layout or {3: "nhw", 4: "nchw"}.get(x.ndim, "nchw")
    if layout not in LAYOUTS:
        raise InputError(f"{where}: layout = {layout!r}: must be one of {', '.join(LAYOUTS)}")
    axes, arrange = LAYOUTS[layout]
    if x.ndim != axes or 0 in x.shape:
        raise InputError(f"{where}: has shape {x.shape}, layout {layout} needs {axes} axes, none of them empty")
    if x.dtype != np.uint8:
        if not np.issubdtype(x.dtype, np.integer) and not np.issubdtype(x.dtype, np.floating):
            raise InputError(f"{where}: is {x.dtype}, must be whole or floating numbers")
        with np.errstate(over="ignore"):
            x = x.astype(np.float32, copy=False)
        check_finite(where, x)
    return np.ascontiguousarray(arrange(x))


def _flat_labels(y: np.ndarray, count: int, where: str) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (count,):
        raise InputError(f"{where}: has shape {y.shape}, must be ({count},), one label a sample")
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.round(y)).all():
        y = y.astype(np.int64)
    if y.dtype.kind not in "iuU":
        raise InputError(f"{where}: is {y.dtype}, labels must be whole numbers from 0 or texts")
    return y


def _classes(
    raw: Mapping[str, np.ndarray], given: np.ndarray | None, where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels counted from 0 without gaps, and the names of the classes."""
    present = np.unique(np.concatenate([np.asarray(y) for y in raw.values()]))
    names = None if given is None else [str(value) for value in np.asarray(given).ravel()]
    if names is not None and len(set(names)) != len(names):
        raise InputError(f"{where}: classes names one class twice")
    if present.dtype.kind == "U":
        names = names if names is not None else present.tolist()
        number = {text: index for index, text in enumerate(names)}
        unknown = [text for text in present.tolist() if text not in number]
        if unknown:
            raise InputError(f"{where}: label {unknown[0]!r} is not among classes")
        return {key: np.array([number[text] for text in y.tolist()], np.int64) for key, y in raw.items()}, tuple(names)
    count = len(names) if names is not None else int(present.max()) + 1
    if present.min() < 0 or present.max() >= count:
        raise InputError(f"{where}: labels go from {present.min()} to {present.max()}, must be 0 to {count - 1}")
    if count > 10_000 or len(present) != count:
        missing = next(label for label in range(count) if label not in present)
        raise InputError(f"{where}: labels have a gap: none is {missing}, they must be 0 to {count - 1} without gaps")
    names = names if names is not None else [str(label) for label in range(count)]
    return {key: y.astype(np.int64) for key, y in raw.items()}, tuple(names)


def _splits(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> Splits:
    if "" in x:
        samples, labels = x[""], y[""]
        sizes = [round(len(labels) * VAL_SHARE), round(len(labels) * TEST_SHARE)]
        val, test, train = stratified_split(labels, sample_hashes(samples), sizes)
        index = {"train": train, "val": val, "test": test}
        return {split: (samples[chosen], labels[chosen]) for split, chosen in index.items()}
    splits = {split: (x[f"_{split}"], y[f"_{split}"]) for split in SPLITS if f"_{split}" in x}
    if "val" not in splits:
        samples, labels = splits["train"]
        val, train = stratified_split(labels, sample_hashes(samples), [round(len(labels) * VAL_SHARE)])
        splits |= {"train": (samples[train], labels[train]), "val": (samples[val], labels[val])}
    return splits
