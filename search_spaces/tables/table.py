"""The task ``table``: one .csv or .parquet file, or a folder with one file per recording, cut into windows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tables.recording import COLUMNAR, PLAIN, TEXT, Recording, Wanted, read_table, recording, with_columns
from search_spaces.tables.windows import Windows, cut, deal
from search_spaces.tasks.class_folders import LeftOut, UnusableFileError, check_share, class_folders
from search_spaces.tasks.digest import Source
from search_spaces.tasks.labels import Labels, read_labels
from search_spaces.tasks.task import Task, assemble
from search_spaces.tasks.walk import Entry, entries_below, is_hidden

NAME = "table"


def table(
    data: str | None = None,
    path: str | None = None,
    columns: str | None = None,
    label: str | None = None,
    group: str | None = None,
    window: int = 1,
    stride: int = 0,
    name_label: str | None = None,
    name_group: str | None = None,
    augment: str = "jitter",
    most_broken: float = 0.1,
) -> Task:
    """Windows of rows as ``(columns, window, 1)``, each within one recording, label and group.

    No group (from a column or from file names) is in two splits. Without groups, whole recordings are assigned to
    splits, or, in a single file, runs of rows with one label; if a class has too few of these, blocks of time. In a
    single file whose rows are samples (``window = 1``), rows are assigned by their hash. No row is in two splits.

    Args:
        data, path: the file, or the folder of files; folders in it are the classes, or ``train/``, ``val/`` and
            ``test/`` with the classes in them.
        columns: names of the measured columns, comma-separated; by default all numeric columns except label, group and
            time.
        label: the column of labels, or those of a one-hot label, comma-separated; by default the first named label,
            class, target, activity or y.
        group: the column that identifies the source of a row, such as a person or machine.
        window: rows of a sample.
        stride: rows from one sample to the next; 0 for half a window.
        name_label, name_group: regular expressions that find label and group in file names: their first capture group,
            else the match.
        augment: data augmentation of training batches.
        most_broken: largest fraction of broken files, and of windows with missing values, that is skipped; more is an
            error.

    Raises:
        InputError: naming file, column and what is allowed.
    """
    _check(window, stride, most_broken)
    place = _place(data, path)
    where = f"task {NAME!r}: {place}"
    wanted = Wanted(_names(columns), _names(label), group, _pattern(name_label), _pattern(name_group))
    left_out = LeftOut(NAME, place if place.is_dir() else place.parent, "files")
    recordings, wanted = _recordings(place, wanted, left_out)
    left_out.check(most_broken)
    labels, y, notes = _labels(recordings, wanted.label, where)
    notes = [f"columns: {', '.join(wanted.columns)}", *notes]
    windows = cut(recordings, y, window, stride or max(1, window // 2))
    notes += _incomplete(windows, window, most_broken, where)
    windows, places, dealt = _dealt(windows, recordings, labels, where)
    samples = windows.samples()
    return assemble(
        NAME,
        {split: (samples.take(index), windows.y[index]) for split, index in places.items()},
        labels.classes,
        groups_test=None if windows.groups is None else windows.groups[places["test"]],
        augment=augment,
        citation=f"the user's table, {place.name}",
        notes=(*left_out.notes(), *notes, dealt),
    )


def _labels(recordings: list[Recording], columns: tuple[str, ...], where: str) -> tuple[Labels, np.ndarray, list[str]]:
    """The classes, the number of each row's or -1 where it has no label, and what is to be said of them.

    Args:
        columns: of the label; those of a one-hot label name the classes.
    """
    names = columns if len(columns) > 1 else None
    rows = np.concatenate([each.labelled for each in recordings])
    if not rows.any():
        raise InputError(f"{where}: no row has a label in {', '.join(columns)}")
    labels = read_labels(np.concatenate([each.labels[each.labelled] for each in recordings]), where, names)
    y = np.full(len(rows), -1, np.int64)
    y[rows] = labels.y
    notes = [labels.note] if labels.note else []
    if not rows.all():
        notes.append(f"{int((~rows).sum()):,} rows without a label are left out")
    return labels, y, notes


def _dealt(
    windows: Windows, recordings: list[Recording], labels: Labels, where: str
) -> tuple[Windows, dict[str, np.ndarray], str]:
    try:
        return deal(windows, np.array([each.split for each in recordings])[windows.recording])
    except InputError as error:
        named = ", ".join(f"{number} = {name}" for number, name in enumerate(labels.classes))
        raise InputError(f"{where}: {error}; labels {named}") from None


def table_source(data: str | None = None, path: str | None = None, **_: object) -> Source:
    """What :func:`table` reads."""
    return Source("3", (_place(data, path),))


def _check(window: int, stride: int, most_broken: float) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise InputError(f"task {NAME!r}: window = {window!r}: must be at least 1 row")
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 0:
        raise InputError(f"task {NAME!r}: stride = {stride!r}: must be at least 1 row, or 0 for half a window")
    check_share(NAME, most_broken)


def _place(data: str | None, path: str | None) -> Path:
    given = data or path
    if given is None or (data and path):
        raise InputError(f"task {NAME!r}: name a .csv or .parquet file or a folder of them: task.path or task.data")
    place = user_path(given)
    if not place.is_file() and not place.is_dir():
        raise InputError(f"task {NAME!r}: {given!r}: no such file or folder")
    return place


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (listed or "").split(",") if name.strip())


def _pattern(rule: str | None) -> re.Pattern[str] | None:
    if rule is None:
        return None
    try:
        return re.compile(rule)
    except re.error as error:
        raise InputError(f"task {NAME!r}: {rule!r}: is not a regular expression: {error}") from None


def _recordings(place: Path, wanted: Wanted, left_out: LeftOut) -> tuple[list[Recording], Wanted]:
    """All files that are tables; columns that nobody named are those of the first."""
    found: list[Recording] = []
    known = None
    for entry, told_label, split in _files(place):
        try:
            if entry.state is None:
                raise UnusableFileError("link or no file", broken=True)
            if entry.path.suffix.lower() not in (*TEXT, *COLUMNAR):
                raise UnusableFileError(entry.path.suffix.lower() or "without suffix", broken=False)
            if known is None:
                known = _known(entry.path, wanted, told_label is not None, place.is_dir())
            found.append(recording(entry.path, entry.name, known, None if known.label else told_label, split))
        except UnusableFileError as error:
            left_out.add(entry.path, error)
            if place.is_file():
                raise InputError(f"task {NAME!r}: {place}: is {error.kind}") from None
    left_out.read = len(found)
    if known is None or not found:
        raise InputError(f"task {NAME!r}: {place}: holds no table: allowed are {', '.join((*TEXT, *COLUMNAR))}")
    return found, known


def _known(path: Path, wanted: Wanted, folders_tell: bool, among_others: bool) -> Wanted:
    """The columns that a file tells; a text in a folder that has none of them is a note and no table."""
    frame = read_table(path)
    try:
        return with_columns(wanted, frame, f"task {NAME!r}: {path}", folders_tell or wanted.name_label is not None)
    except InputError:
        if among_others and path.suffix.lower() == PLAIN:
            raise UnusableFileError(PLAIN, broken=False) from None
        raise


def _files(place: Path) -> list[tuple[Entry, str | None, str]]:
    """Every file with the label and the split that its folders tell."""
    if place.is_file():
        return [(Entry(place.name, place, place.stat()), None, "")]
    if not any(entry.is_dir() and not is_hidden(entry.name) for entry in place.iterdir()):
        return [(entry, None, "") for entry in entries_below(place)]
    folders = class_folders(NAME, place)
    return [
        (entry, name, split)
        for split, classes in folders.files.items()
        for name, entries in classes.items()
        for entry in entries
    ]


def _incomplete(windows: Windows, rows: int, most: float, where: str) -> list[str]:
    incomplete, whole = windows.incomplete, len(windows.y)
    if incomplete > most * (incomplete + whole):
        raise InputError(
            f"{where}: {incomplete:,} of {incomplete + whole:,} windows have missing values: at most a share of "
            f"{most:g} may be left out, see options.most_broken; or leave out columns that lack them: options.columns"
        )
    if not whole:
        raise InputError(f"{where}: nowhere are {rows} rows in succession with one label and no missing value")
    return [f"{incomplete:,} windows with missing values are left out"] if incomplete else []
