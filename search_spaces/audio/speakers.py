"""Speakers of recordings, and the split of Speech Commands by speaker."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

import numpy as np

from mcu.errors import InputError

NOHASH = r"([^/]+)_nohash_[^/]*$"
"""Names of Speech Commands: who speaks, then the number of the take."""
MOST_CLIPS = 2**27 - 1
VAL_PERCENT, TEST_PERCENT = 10.0, 10.0


def official_split(name: str) -> str:
    """Split of a file of Speech Commands by the rule of its authors: a hash of the speaker (arXiv 1804.03209)."""
    speaker = re.sub(r"_nohash_.*$", "", name.rpartition("/")[2])
    hashed = int(sha1(speaker.encode()).hexdigest(), 16) % (MOST_CLIPS + 1) * (100.0 / MOST_CLIPS)
    if hashed < VAL_PERCENT:
        return "val"
    return "test" if hashed < VAL_PERCENT + TEST_PERCENT else "train"


def speakers_of(names: Sequence[str], rule: str | None, table: Path | None) -> tuple[np.ndarray | None, str]:
    """Speaker of each recording ``(n,)``, or None if unknown, and one line on how they were found.

    Args:
        names: of files, relative to the folder of the class folders.
        rule: regular expression that finds the speaker in a name, its first group if it has one; "" for none. Without
            one the names of Speech Commands are known.
        table: CSV file with the columns ``file`` and ``speaker``.

    Raises:
        InputError: for a rule that is invalid or matches no file, or a table that lacks a file.
    """
    if table is not None:
        return _from_table(names, table), f"speakers are those of {table.name}"
    if rule is None:
        if not all(re.search(NOHASH, name) for name in names):
            return None, ""
        rule = NOHASH
    if not rule:
        return None, ""
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(f"speaker = {rule!r}: is not a regular expression: {error}") from None
    found = [pattern.search(name) for name in names]
    if not any(found):
        raise InputError(f"speaker = {rule!r}: matches no file name such as {names[0]!r}")
    unknown = sum(match is None for match in found)
    speakers = [name if match is None else _first(match) for name, match in zip(names, found, strict=True)]
    told = f"{len(set(speakers))} speakers, found in the names of files"
    return np.array(speakers), told + (f"; {unknown} files name none and count as one each" if unknown else "")


def _first(match: re.Match[str]) -> str:
    return match[1] if match.re.groups and match[1] is not None else match[0]


def _from_table(names: Sequence[str], table: Path) -> np.ndarray:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = {row["file"]: row["speaker"] for row in csv.DictReader(file)}
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{table}: must be a CSV file with the columns file and speaker: {error}") from None
    lacking = next((name for name in names if name not in rows), None)
    if lacking is not None:
        raise InputError(f"{table}: names no speaker of {lacking!r}")
    return np.array([rows[name] for name in names])
