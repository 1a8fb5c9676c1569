"""Files in one folder per class, optionally below train/, val/ and test/; and the files that could not be used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.labels import check_spelling
from search_spaces.tasks.rows import Rows
from search_spaces.tasks.splits import grouped_split, stratified_split
from search_spaces.tasks.walk import Entry, entries_below, is_hidden

VAL_SHARE, TEST_SHARE = 0.15, 0.15
SPLIT_NAMES: dict[str, str] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SHOWN = 5
T = TypeVar("T")


@dataclass(frozen=True)
class ClassFolders:
    """Location of the files of each class.

    Attributes:
        classes: names of the class folders, in order.
        places: the folder of the class folders of each split; the split is "" without split folders.
        files: of each class, by split.
    """

    folder: Path
    places: Mapping[str, Path]
    classes: tuple[str, ...]
    files: Mapping[str, Mapping[str, tuple[Entry, ...]]]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits given by folders, if any."""
        return tuple(split for split in self.files if split)


def given_folder(task: str, data: str | None) -> Path:
    """``task.data`` of a task that reads a folder of class folders.

    Raises:
        InputError: when it is missing or not a folder.
    """
    if data is None:
        raise InputError(f"task {task!r}: task.data is missing: name a folder that has a folder for each class")
    folder = user_path(data)
    if not folder.is_dir():
        raise InputError(f"task {task!r}: task.data = {data!r}: is not a folder")
    return folder


def class_folders(task: str, folder: Path, aside: Collection[str] = ()) -> ClassFolders:
    """The class folders of a folder, or of its train/, val/ and test/ if it has no others.

    Args:
        task: its name, for messages.
        aside: names of folders that are not classes.

    Raises:
        InputError: naming the folder and what it lacks.
    """
    where = f"task {task!r}: {folder}"
    names = _folders(folder, aside)
    splits = {name: SPLIT_NAMES.get(name.lower()) for name in names}
    if not names or None in splits.values():
        return ClassFolders(folder, {"": folder}, *_classes(where, {"": folder}, aside))
    places: dict[str, Path] = {}
    for name, split in splits.items():
        if split in places:
            raise InputError(f"{where}: {places[str(split)].name} and {name} are both for {split}: allowed is one")
        places[str(split)] = folder / name
    if set(places) not in ({"train", "test"}, {"train", "val", "test"}):
        inner = ", ".join(f"{name}/" for name in names)
        raise InputError(
            f"{where}: has {inner} only: as splits allowed are train/ and test/ with or without val/; if it is to be "
            f"split here, name the folder that holds the class folders, {folder / names[0]}"
        )
    ordered: dict[str, Path] = {split: places[split] for split in ("train", "val", "test") if split in places}
    return ClassFolders(folder, ordered, *_classes(where, ordered, aside))


def _folders(folder: Path, aside: Collection[str]) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not is_hidden(entry.name) and entry.name not in aside
    )


def _classes(
    where: str, places: Mapping[str, Path], aside: Collection[str]
) -> tuple[tuple[str, ...], dict[str, dict[str, tuple[Entry, ...]]]]:
    classes = tuple(dict.fromkeys(name for place in places.values() for name in _folders(place, aside)))
    classes = tuple(sorted(classes))
    if len(classes) < 2:
        raise InputError(f"{where}: has {len(classes)} class folders, needs at least 2")
    check_spelling(classes, where, "class folders")
    files: dict[str, dict[str, tuple[Entry, ...]]] = {}
    for split, place in places.items():
        lacking = [name for name in classes if not (place / name).is_dir()]
        if lacking:
            raise InputError(f"{where}: {place.name}/ has no folder {lacking[0]!r}: every split needs every class")
        files[split] = {name: tuple(entries_below(place / name)) for name in classes}
    return classes, files


class UnusableFileError(Exception):
    """Why a file cannot be a sample: ``kind`` in a word or two, and whether it was expected to be one."""

    def __init__(self, kind: str, broken: bool) -> None:
        super().__init__(kind)
        self.kind, self.broken = kind, broken


@dataclass(frozen=True)
class Samples(Generic[T]):
    """Samples read from class folders.

    Attributes:
        entries: the file of each.
        values: as the task's reader returned them.
        y: labels, int64 ``(n,)``.
        told: the split each file's folder gives ``(n,)``, "" for none.
    """

    entries: tuple[Entry, ...]
    values: tuple[T, ...]
    y: np.ndarray
    told: np.ndarray


def read_samples(folders: ClassFolders, read: Callable[[Path], T], left_out: LeftOut) -> Samples[T]:
    """Every file that ``read`` can use; it raises ``UnusableFileError`` for the others.

    Raises:
        InputError: for a class without samples, naming what its folder contains instead.
    """
    entries: list[Entry] = []
    values: list[T] = []
    y: list[int] = []
    told: list[str] = []
    for split, classes in folders.files.items():
        for label, name in enumerate(folders.classes):
            before = len(values)
            for entry in classes[name]:
                try:
                    if entry.state is None:
                        raise UnusableFileError("link or no file", broken=True)
                    values.append(read(entry.path))
                    entries.append(entry)
                except UnusableFileError as error:
                    left_out.add(entry.path, error)
            if len(values) == before:
                place = folders.places[split] / name
                kinds = f": {left_out.kinds(place)}" if classes[name] else ""
                count, what = len(classes[name]), left_out.what
                raise InputError(
                    f"task {left_out.task!r}: {place}: holds none of the {what} among {count} files{kinds}"
                )
            y += [label] * (len(values) - before)
            told += [split] * (len(values) - before)
    left_out.read = len(values)
    return Samples(tuple(entries), tuple(values), np.array(y, np.int64), np.array(told))


@dataclass
class LeftOut:
    """Files that a loader skipped, and why.

    Attributes:
        what: the samples, in plural: ``images``.
        broken: files that should be samples.
        others: files of other kinds, by kind.
        read: how many were used.
    """

    task: str
    folder: Path
    what: str
    broken: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    others: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    read: int = 0

    def add(self, path: Path, error: UnusableFileError) -> None:
        """Record a file."""
        (self.broken if error.broken else self.others)[error.kind].append(path)

    def check(self, most: float) -> None:
        """Refuse a set with more than this fraction of broken files.

        Raises:
            InputError: naming the first files.
        """
        count = sum(map(len, self.broken.values()))
        if count > most * (count + self.read):
            raise InputError(
                f"task {self.task!r}: {self.folder}: {count} of {count + self.read} {self.what} cannot be read, "
                f"{self._told(self.broken)}: at most a share of {most:g} may be left out, see options.most_broken"
            )

    def notes(self) -> tuple[str, ...]:
        """One line on the skipped files, if any."""
        everything = {**self.broken, **self.others}
        count = sum(map(len, everything.values()))
        if not count:
            return ()
        return (f"left out {count} of {count + self.read} files: {self._told(everything)}",)

    def kinds(self, place: Path) -> str:
        """Kinds of files below a folder: ``30 .heic``."""
        counts = {
            kind: sum(place in path.parents for path in paths) for kind, paths in {**self.broken, **self.others}.items()
        }
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)

    def _told(self, found: Mapping[str, Sequence[Path]]) -> str:
        return "; ".join(f"{len(paths)} {kind} ({self._names(paths)})" for kind, paths in found.items() if paths)

    def _names(self, paths: Sequence[Path]) -> str:
        names = ", ".join(path.relative_to(self.folder).as_posix() for path in paths[:SHOWN])
        return names + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")


def check_share(task: str, most_broken: float) -> None:
    """Refuse an invalid fraction of broken files.

    Raises:
        InputError: naming the option.
    """
    if isinstance(most_broken, bool) or not 0 <= most_broken < 1:
        raise InputError(f"task {task!r}: most_broken = {most_broken!r}: must be 0 to less than 1")


def split_three_ways(
    y: np.ndarray, hashes: np.ndarray, told: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Indices of each split: as given by folders, else 70/15/15 by groups or by the samples' hashes.

    Args:
        y: labels ``(n,)``.
        hashes: of the samples, see :func:`search_spaces.tasks.splits.sample_hashes`.
        told: name of each sample's split ``(n,)``, "" for all if unknown; without ``val`` it is taken from ``train``.
        groups: source of each sample, such as a person ``(n,)``.

    Raises:
        InputError: when a class or a group cannot be in every split.
    """

    def carved(index: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        parts = (
            stratified_split(y[index], hashes[index], sizes)
            if groups is None
            else grouped_split(y[index], groups[index], sizes)
        )
        return [index[part] for part in parts]

    everything = np.arange(len(y))
    if not told[0]:
        val, test, train = carved(everything, [round(len(y) * VAL_SHARE), round(len(y) * TEST_SHARE)])
        return {"train": train, "val": val, "test": test}
    places = {split: everything[told == split] for split in ("train", "val", "test")}
    if not len(places["val"]):
        places["val"], places["train"] = carved(places["train"], [round(len(places["train"]) * VAL_SHARE)])
    return places


def placed_splits(x: Rows, y: np.ndarray, places: Mapping[str, np.ndarray]) -> dict[str, tuple[Rows, np.ndarray]]:
    """Samples and labels of each split."""
    return {split: (x.take(index), y[index]) for split, index in places.items()}
