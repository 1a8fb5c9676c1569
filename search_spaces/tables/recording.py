"""A table in a .csv or .parquet file as a recording: measured values, labels and groups, row by row."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcu.errors import InputError
from search_spaces.tasks.class_folders import UnusableFileError
from search_spaces.tasks.labels import is_missing, texts

if TYPE_CHECKING:
    import pandas as pd

PLAIN = ".txt"
"""May be a table or a note; one that is no table is not broken."""
TEXT = (".csv", ".tsv", PLAIN)
COLUMNAR = (".parquet", ".pq")
LABEL_NAMES = ("label", "labels", "class", "target", "activity", "y")
TIME_NAMES = frozenset(
    {"time", "timestamp", "seconds", "date", "datetime", "index", "id", "t", "row", "sample", "unnamed: 0"}
)
DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT = 50
"""Lines that tell how a file is written."""
STEADY = 1e-3
"""A column whose steps differ by less than this share counts rows or time."""


@dataclass(frozen=True)
class Wanted:
    """Roles of columns, see :func:`search_spaces.tables.table.table`; missing ones are derived from the first file."""

    columns: tuple[str, ...]
    label: tuple[str, ...]
    group: str | None
    name_label: re.Pattern[str] | None
    name_group: re.Pattern[str] | None


@dataclass(frozen=True)
class Recording:
    """Consecutive rows.

    Attributes:
        values: float32 ``(rows, columns)``, NaN where something is missing.
        labels: ``(rows,)``, or ``(rows, classes)`` of a one-hot label.
        labelled: bool ``(rows,)``, False where the label is missing.
        groups: texts ``(rows,)``, if known.
        split: name of the split its folder is for, or "".
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray
    groups: np.ndarray | None
    split: str = ""


def read_table(path: Path) -> pd.DataFrame:
    """A file as a table; columns are named by its first line, or numbered if that holds numbers.

    Raises:
        UnusableFileError: saying what the file contains instead.
        InputError: when the library for it is not installed.
    """
    import pandas as pd

    suffix = path.suffix.lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = (
                pd.read_parquet(path) if suffix in COLUMNAR else pd.read_csv(path, index_col=False, **_written(path))
            )
    except pd.errors.ParserWarning:  # which column has no name, the first (numbers of rows) or another, is not known
        raise UnusableFileError(
            "its lines have more fields than its first line has names: name every column", True
        ) from None
    except ImportError:
        raise InputError(f"{path}: `pip install 'mcusweep[parquet]'` reads it") from None
    except (OSError, ValueError, csv.Error) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise UnusableFileError(f"no readable table: {' '.join(str(error).split())[:80]}", suffix != PLAIN) from None
    if not len(frame) or not len(frame.columns):
        raise UnusableFileError("without rows", broken=suffix != PLAIN)
    frame.columns = [str(name).strip() for name in frame.columns]
    nameless = [name.startswith("Unnamed:") for name in frame.columns]
    frame = frame.loc[:, ~(np.array(nameless) & frame.isna().all().to_numpy())]  # a mark with nothing behind it
    return frame.apply(lambda column: column.map(_stripped) if column.dtype.kind == "O" else column)


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _written(path: Path) -> dict[str, Any]:
    """How a text file separates, writes and names its columns, as arguments of pandas."""
    encoding = "utf-8-sig"
    try:
        lines = _first_lines(path, encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"
        lines = _first_lines(path, encoding)
    counts = {mark: min((line.count(mark) for line in lines), default=0) for mark in DELIMITERS}
    if path.suffix.lower() != ".csv" and not any(counts.values()):
        return {"sep": r"\s+", "encoding": encoding, "header": _header(lines, None)}
    mark = next((mark for mark in DELIMITERS[1:] if counts[mark]), ",")
    decimal = "," if mark != "," and any(re.search(r"\d,\d", line) for line in lines) else "."
    return {
        "sep": mark,
        "encoding": encoding,
        "header": _header(lines, mark, decimal),
        "decimal": decimal,
        "skipinitialspace": True,
        "low_memory": False,
    }


def _first_lines(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, newline=None) as file:
        return [line for line in islice(file, LOOKED_AT) if line.strip()]


def _header(lines: Sequence[str], mark: str | None, decimal: str = ".") -> int | None:
    """0 where the first line holds names, None where it holds what the next one does: numbers in the same places."""
    first, second = (
        [field.strip().replace(decimal, ".") for field in line.split(mark)] for line in (*lines, "", "")[:2]
    )
    numbers = [field for field in first if _is_number(field)]
    counted = numbers in (
        [str(place + start) for place in range(len(numbers))] for start in (0, 1)
    )  # names as pandas has
    if not numbers or (counted and len(numbers) > 1):
        return 0
    return None if not second[0] or list(map(_is_number, first)) == list(map(_is_number, second)) else 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def with_columns(wanted: Wanted, frame: pd.DataFrame, where: str, told: bool) -> Wanted:
    """The wanted columns, those not given by the user derived from a table.

    Args:
        where: begins the messages.
        told: whether the label comes from folders or file names.

    Raises:
        InputError: for a missing column, and when no label is found.
    """
    here = ", ".join(frame.columns[:20]) + (" ..." if len(frame.columns) > 20 else "")
    label = wanted.label
    if not label and not told:
        label = tuple(name for name in frame.columns if name.lower() in LABEL_NAMES)[:1]
        if not label:
            raise InputError(f"{where}: say which column is the label, options.label: its columns are {here}")
    for name in (*label, *wanted.columns, *([wanted.group] if wanted.group else [])):
        if name not in frame.columns:
            raise InputError(f"{where}: has no column {name!r}: its columns are {here}")
    columns = wanted.columns or tuple(
        name
        for name in frame.columns
        if name not in (*label, wanted.group) and frame[name].dtype.kind in "iufb" and not _counts(name, frame[name])
    )
    if not columns:
        raise InputError(f"{where}: has no column of numbers beside label, group and time: its columns are {here}")
    return Wanted(columns, label, wanted.group, wanted.name_label, wanted.name_group)


def _counts(name: str, column: pd.Series) -> bool:
    """Whether a column counts rows or time."""
    if name.lower() in TIME_NAMES or name.lower().startswith(("time_", "timestamp_")):
        return True
    steps = np.diff(column.to_numpy(np.float64))
    return len(steps) > 2 and bool(steps.min() > 0) and bool(np.ptp(steps) <= STEADY * steps.mean())


def recording(path: Path, name: str, wanted: Wanted, told_label: str | None, split: str) -> Recording:
    """A file as a recording.

    Args:
        name: relative to the folder, in which regular expressions look for label and group.
        told_label: the label from its folder, if any.

    Raises:
        UnusableFileError: for a file that is not a table or lacks a column.
    """
    frame = read_table(path)
    lacking = [each for each in (*wanted.columns, *wanted.label, wanted.group) if each and each not in frame.columns]
    if lacking:
        raise UnusableFileError(f"without column {lacking[0]!r}", broken=path.suffix.lower() != PLAIN)
    if wanted.name_label is not None:
        told_label = _found(wanted.name_label, name, "label")
    values = np.stack([_numbers(frame[column]) for column in wanted.columns], 1)
    if wanted.label:
        given = frame[list(wanted.label)]
        labelled = ~given.isna().any(axis=1).to_numpy()
        for column in wanted.label:
            _check_gaps(path, column, given[column].isna().to_numpy(), given[column].dtype.kind in "iufb")
        labels = given.to_numpy() if len(wanted.label) > 1 else given[wanted.label[0]].to_numpy()
    else:
        labels, labelled = np.full(len(frame), told_label), np.ones(len(frame), bool)
    groups = None
    if wanted.group:
        gaps = frame[wanted.group].isna().to_numpy() & labelled
        _check_gaps(path, wanted.group, gaps, frame[wanted.group].dtype.kind in "iufb")
        if gaps.any():
            raise InputError(f"{path}: {wanted.group} is empty in {int(gaps.sum()):,} rows: name their group")
        groups = texts(frame[wanted.group].tolist())
    elif wanted.name_group is not None:
        groups = np.full(len(frame), _found(wanted.name_group, name, "group"))
    return Recording(name, values, labels, labelled, groups, split)


def _check_gaps(path: Path, name: str, gaps: np.ndarray, numbers: bool) -> None:
    """Refuse words such as NA and None where texts are expected: they may be names, and pandas takes them for gaps.

    Raises:
        InputError: naming the word.
    """
    if not gaps.any() or path.suffix.lower() in COLUMNAR or (numbers and not gaps.all()):
        return
    import pandas as pd

    written = pd.read_csv(path, index_col=False, dtype=str, keep_default_na=False, **_written(path))
    written.columns = [str(column).strip() for column in written.columns]
    words = [word.strip() for word in written[name].to_numpy()[gaps].tolist() if not is_missing(word)]
    if words:
        raise InputError(
            f"{path}: {name} is {words[0]!r} in {words.count(words[0]):,} rows: if that is a name, write another one; "
            "if there is none, leave it empty"
        )


def _numbers(column: pd.Series) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float32, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan).astype(np.float32)


def _found(pattern: re.Pattern[str], name: str, what: str) -> str:
    match = pattern.search(name)
    if match is None:
        raise UnusableFileError(f"whose name tells no {what}", broken=True)
    return match[1] if pattern.groups and match[1] is not None else match[0]
