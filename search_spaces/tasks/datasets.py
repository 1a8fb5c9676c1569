"""Datasets of torch and Hugging Face in place of arrays: every sample is read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcu.errors import InputError
from search_spaces.tasks.task import SPLITS

INPUTS = ("image", "img", "pixel_values", "x", "input", "inputs", "features", "audio")
TARGETS = ("label", "labels", "y", "target", "targets")
"""Columns of a Hugging Face dataset, the first that is there."""

VALIDATION = ("validation", "valid", "val")


def is_dataset(value: Any) -> bool:
    """Whether a value is a sized dataset, or a dictionary of its splits."""
    if isinstance(value, Mapping):
        return bool(value) and all(is_dataset(split) for split in value.values())
    sized = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return (sized or _is_loader(value)) and not isinstance(value, str | list | tuple) and not hasattr(value, "dtype")


def dataset_arrays(value: Any, where: str) -> dict[str, np.ndarray]:
    """Arrays in the form of the task ``arrays``, from one dataset or several by split.

    A torch ``Dataset`` or ``DataLoader`` gives pairs of input and target, a Hugging Face dataset rows with a column of
    ``INPUTS`` and one of ``TARGETS``. Images are channels first if they are tensors, last if they are PIL's.

    Args:
        value: a dataset, or ``{"train": ..., "val": ..., "test": ...}`` of them, ``val`` being optional.
        where: its name in errors.

    Raises:
        InputError: naming what a sample holds and what is allowed.
    """
    splits = dict(value) if isinstance(value, Mapping) else {"": value}
    for name in VALIDATION:
        if name in splits:
            splits["val"] = splits.pop(name)
    found: dict[str, np.ndarray] = {}
    for split, dataset in splits.items():
        if split and split not in SPLITS:
            continue  # Hugging Face data sets hold others, such as "unsupervised"
        behind = f"_{split}" if split else ""
        found[f"x{behind}"], found[f"y{behind}"] = _arrays(dataset, f"{where}: {split or 'dataset'}")
        names = _class_names(dataset)
        if names is not None:
            found["classes"] = np.asarray(names)
    return found


def _arrays(dataset: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    dataset = getattr(dataset, "dataset", dataset) if _is_loader(dataset) else dataset
    if not len(dataset):
        raise InputError(f"{where}: holds no samples")
    pairs = [_pair(dataset[index], where) for index in range(len(dataset))]
    try:
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])
    except ValueError:
        shapes = sorted({x.shape for x, _ in pairs})[:3]
        raise InputError(f"{where}: samples have shapes {shapes}, must have one") from None


def _is_loader(value: Any) -> bool:
    return type(value).__name__ == "DataLoader"


def _pair(sample: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(sample, Mapping):
        x = next((sample[name] for name in INPUTS if name in sample), None)
        y = next((sample[name] for name in TARGETS if name in sample), None)
        if x is None or y is None:
            allowed = f"one of {', '.join(INPUTS)} and one of {', '.join(TARGETS)}"
            raise InputError(f"{where}: has the columns {', '.join(sample)}; needs {allowed}")
    elif isinstance(sample, tuple | list) and len(sample) >= 2:
        x, y = sample[0], sample[1]
    else:
        raise InputError(f"{where}: a sample is {type(sample).__name__}, must be a pair of input and target")
    if isinstance(x, Mapping) and "array" in x:  # Hugging Face's audio
        x = x["array"]
    return _array(x), np.asarray(y)


def _array(x: Any) -> np.ndarray:
    """A sample with its channels first; PIL's images have them last or none."""
    array = np.asarray(x)
    if hasattr(x, "getbands"):
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _class_names(dataset: Any) -> list[str] | None:
    features = getattr(dataset, "features", None)
    columns = features if isinstance(features, Mapping) else {}
    column = next((columns[name] for name in TARGETS if name in columns), None)
    names = getattr(column, "names", None) or getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) and names else None
