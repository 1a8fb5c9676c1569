"""Conversion of labels (from 0 or 1, with gaps, texts, boolean, one-hot) to class numbers from 0."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from mcu.errors import InputError

MOST_CLASSES = 1000
SHOWN = 10


@dataclass(frozen=True)
class Labels:
    """Class numbers, int64 ``(n,)`` from 0 without gaps, and the classes' names.

    Attributes:
        note: how the given labels map to class numbers, if that is not evident.
    """

    y: np.ndarray
    classes: tuple[str, ...]
    note: str = ""


def read_labels(given: np.ndarray, where: str, names: Sequence[str] | None = None) -> Labels:
    """Labels ``(n,)`` or one-hot ``(n, classes)`` as class numbers.

    Args:
        given: integers, texts or booleans; one-hot rows have a single 1.
        where: begins the messages.
        names: names of the classes; then numbers are indices into them and texts must be among them.

    Raises:
        InputError: for a label that names no class, and for more classes than the samples support.
    """
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 2:
        return _one_hot(given, where, names)
    if given.ndim != 1:
        raise InputError(f"{where}: has shape {given.shape}, must be one label a sample, or one-hot")
    values = texts(given.tolist()) if given.dtype.kind == "O" else given
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            wrong = values[~(np.isfinite(values) & (values == np.round(values)))][0]
            raise InputError(f"{where}: holds {wrong}, labels must be whole numbers, texts, truth values or one-hot")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iubU":
        raise InputError(f"{where}: is {values.dtype}, labels must be whole numbers, texts, truth values or one-hot")
    present, numbers = np.unique(values, return_inverse=True)
    if names is not None:
        return _named(values, present, where, names)
    if values.dtype.kind == "U":
        _check_texts(values, present.tolist(), where)
    if values.dtype.kind == "i" and present[0] < 0 and present.tolist() != [-1, 1]:
        raise InputError(f"{where}: labels go from {present[0]} to {present[-1]}: those below 0 name no class")
    if len(present) > min(MOST_CLASSES, max(2, len(values) // 2)):
        raise InputError(f"{where}: has {len(present):,} different values among {len(values):,}: they are not classes")
    classes = tuple(str(value) for value in present.tolist())
    evident = values.dtype.kind == "U" or present.tolist() == list(range(len(present)))
    note = "" if evident and values.dtype.kind != "b" else _mapping(classes)
    return Labels(numbers.astype(np.int64), classes, note)


def texts(values: Iterable[Any]) -> np.ndarray:
    """Values as texts ``(n,)``; whole numbers without a fraction, which those of a column with a gap come with."""
    return np.array([str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values], str)


def is_missing(text: str) -> bool:
    """Whether a text stands for no value: blanks, or what is printed for NaN."""
    return text.strip().casefold() in ("", "nan")


def check_spelling(names: Iterable[str], where: str, what: str) -> None:
    """Refuse names that differ in capitals, blanks, full stops or zeros alone: nobody means two things by them.

    Single letters may differ in being capitals.

    Args:
        where: begins the message.
        what: that the names are of, in plural.

    Raises:
        InputError: naming two.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(_plain(name), name)
        if other != name:
            raise InputError(
                f"{where}: {what} {other!r} and {name!r} differ in spelling alone: write them alike if they are one, "
                "else give them names that differ in more"
            )


def _plain(name: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", name).split()).rstrip(".,;: ")
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
        return str(Decimal(text).normalize() + 0)
    return text if len(text) < 2 else text.casefold()


def _check_texts(values: np.ndarray, present: Sequence[str], where: str) -> None:
    for name in present:
        if is_missing(name):
            count = int((values == name).sum())
            raise InputError(
                f"{where}: label {name!r} of {count:,} samples names no class: leave these out, or name it"
            )
    check_spelling(present, where, "labels")


def _one_hot(given: np.ndarray, where: str, names: Sequence[str] | None) -> Labels:
    marked = given.astype(np.float64) if given.dtype.kind in "iubf" else np.full(given.shape, np.nan)
    wrong = ~(np.isin(marked, (0, 1)).all(1) & (marked.sum(1) == 1))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(f"{where}: row {at} is {given[at].tolist()}: a one-hot label has a single 1 and else 0")
    classes = tuple(names) if names is not None else tuple(str(place) for place in range(given.shape[1]))
    if len(classes) != given.shape[1]:
        raise InputError(f"{where}: is one-hot over {given.shape[1]} classes, {len(classes)} are named")
    y = marked.argmax(1).astype(np.int64)
    missing = np.setdiff1d(np.arange(len(classes)), y)
    if len(missing):
        raise InputError(f"{where}: no row has its 1 in column {missing[0]} ({classes[missing[0]]})")
    return Labels(y, classes, f"one-hot over {len(classes)} classes")


def _named(values: np.ndarray, present: np.ndarray, where: str, names: Sequence[str]) -> Labels:
    if len(set(names)) != len(names):
        raise InputError(f"{where}: classes names one class twice")
    if values.dtype.kind == "U":
        number = {text: index for index, text in enumerate(names)}
        unknown = [text for text in present.tolist() if text not in number]
        if unknown:
            raise InputError(f"{where}: label {unknown[0]!r} is not among classes")
        return Labels(np.array([number[text] for text in values.tolist()], np.int64), tuple(names))
    whole = values.astype(np.int64)
    if whole.min() < 0 or whole.max() >= len(names):
        raise InputError(f"{where}: labels go from {whole.min()} to {whole.max()}, must be 0 to {len(names) - 1}")
    missing = np.setdiff1d(np.arange(len(names)), whole)
    if len(missing):
        raise InputError(f"{where}: none of the labels is {missing[0]} ({names[missing[0]]})")
    return Labels(whole, tuple(names))


def _mapping(classes: Sequence[str]) -> str:
    shown = ", ".join(f"{name} is class {number}" for number, name in enumerate(classes[:SHOWN]))
    return f"labels: {shown}" + (f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else "")
