"""Robust standard streams: a closed stream, a full disk or another encoding does not stop a sweep.

Messages (stderr) may be lost; results (stdout) that cannot be written are an error.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from orchestrator.failures import RunFailed

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


class UnwritableAnswer(RunFailed):
    """The result cannot be written to standard output."""


class _Answers(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnwritableAnswer(f"the result cannot be written to standard output: {error.strerror}") from None


class _Said(io.FileIO):
    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


def settle_streams(*, answers: bool) -> None:
    """Replace this process's streams by robust ones. Call it before any file is opened.

    Args:
        answers: whether standard output has results; a worker has none.
    """
    for number in (_INPUT, _OUTPUT, _ERRORS):
        _fill(number)
    sys.stdout = _text(_Answers(_OUTPUT, "w", closefd=False) if answers else _Said(_OUTPUT, "w", closefd=False))
    sys.stderr = _text(_Said(_ERRORS, "w", closefd=False), at_once=True)


def drop_answers() -> None:
    """Discard unwritten output, so that it is not retried at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), _OUTPUT)
        sys.stdout.flush()


def _fill(number: int) -> None:
    """Occupy a descriptor that is closed: a database that got the number of stderr would be written messages into."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)  # takes the lowest number, this one; writing to it fails, as it should


def _text(raw: io.FileIO, *, at_once: bool = False) -> TextIO:
    given = sys.stdout if raw.fileno() == _OUTPUT else sys.stderr
    encoding = getattr(given, "encoding", None) or "utf-8"
    at_once = at_once or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=_PLAIN, line_buffering=at_once)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the terminal's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_LOOK_ALIKES.get(c, "?") for c in lost), error.end


_PLAIN = "mcusweep-plain"
_LOOK_ALIKES = {"█": "#", "░": ".", "–": "-", "—": "-", "…": "...", "×": "x", "─": "-", "≤": "<=", "±": "+-"}
codecs.register_error(_PLAIN, _plain)
