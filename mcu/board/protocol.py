"""The lines that a board and this computer exchange, as docs/how-to/board.md defines them.

A board's line is ``$words*check``, the check being the CRC-32 of the words in eight hexadecimal digits. Whatever else
arrives - a boot loader's banner, log lines, half a line, noise - is no line, and is passed over.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

VERSION = 1
IDENTIFY = "mcusweep board"
LONGEST_LINE = 200
"""Characters of a board's line; what goes on for longer without an end is noise."""

_LINE = re.compile(rb"\$([ -#%-)+-~]{1,160})\*([0-9a-f]{8})")
_COUNT = re.compile(r"[0-9]{1,10}")
_NAME, _IDENTITY, _CHECK = (re.compile(text) for text in (r"[a-z][a-z0-9_]{0,31}", r"[0-9a-f]{16}", r"[0-9a-f]{8}"))


@dataclass(frozen=True)
class BoardModel:
    """A model in a board's program: ``identity`` are the first 16 digits of the SHA-256 of its .tflite file."""

    index: int
    name: str
    identity: str
    vectors: int


@dataclass(frozen=True)
class Board:
    """What a board says of itself.

    Attributes:
        ticks_per_second: of its clock, which counts to 2^32 and begins again.
        core_hz: clock of the processor; None where the program does not know it.
    """

    ticks_per_second: int
    core_hz: int | None
    models: tuple[BoardModel, ...]


@dataclass(frozen=True)
class BoardRun:
    """Inferences of one model on a board.

    Attributes:
        ticks: of each timed inference.
        wrong: of each test vector, output codes that differ from those stored in the program.
        checks: of each test vector, CRC-32 of the output codes.
    """

    ticks: tuple[int, ...]
    wrong: tuple[int, ...]
    checks: tuple[int, ...]


class Lines:
    """Words of the board's lines in a stream of bytes."""

    def __init__(self) -> None:
        self._noise = 0
        self._rest = b""

    @property
    def noise(self) -> int:
        """Bytes that belong to no line; a line that has not ended is none."""
        return self._noise + len(self._rest)

    def feed(self, data: bytes) -> list[list[str]]:
        """The words of each line that is complete with these bytes."""
        *whole, self._rest = re.split(rb"[\r\n]", self._rest + data)
        if len(self._rest) > LONGEST_LINE:
            self._noise += len(self._rest)
            self._rest = b""
        return [words for line in whole if (words := self._read(line)) is not None]

    def _read(self, line: bytes) -> list[str] | None:
        found = list(_LINE.finditer(line))  # the last: an earlier one was cut off by noise
        if found and zlib.crc32(found[-1][1]) == int(found[-1][2], 16):
            self._noise += len(line) - len(found[-1][0])
            return found[-1][1].decode("ascii").split(" ")
        self._noise += len(line)
        return None


def run_command(model: BoardModel, runs: int) -> str:
    """The command that times a model."""
    return f"mcusweep run {model.index} {runs}"


def counts(words: list[str], number: int) -> list[int] | None:
    """So many whole numbers behind the first word; None if they are not."""
    if len(words) != 1 + number or not all(_COUNT.fullmatch(word) for word in words[1:]):
        return None
    return [int(word) for word in words[1:]]


def model_line(words: list[str]) -> BoardModel | None:
    """The model in ``model INDEX NAME IDENTITY VECTORS``; None if that is not what the words say."""
    if len(words) != 5 or words[0] != "model" or not (_NAME.fullmatch(words[2]) and _IDENTITY.fullmatch(words[3])):
        return None
    if not (_COUNT.fullmatch(words[1]) and _COUNT.fullmatch(words[4]) and int(words[4]) > 0):
        return None
    return BoardModel(int(words[1]), words[2], words[3], int(words[4]))


def vector_line(words: list[str]) -> tuple[int, int, int] | None:
    """Number, wrong codes and check in ``vector NUMBER WRONG CHECK``; None if that is not what the words say."""
    if len(words) != 4 or words[0] != "vector" or not _CHECK.fullmatch(words[3]):
        return None
    found = counts(words[:3], 2)
    return None if found is None else (found[0], found[1], int(words[3], 16))
