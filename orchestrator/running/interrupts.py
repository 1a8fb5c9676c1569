"""Ctrl-C once: finish what runs. Twice, or SIGTERM: stop now. Neither loses a finished result."""

from __future__ import annotations

import signal
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any


class Wish(IntEnum):
    """What the user wants."""

    GO_ON = 0
    FINISH_RUNNING = 1
    STOP_NOW = 2


class Interrupts:
    """Counts signals while it is entered; the previous handlers come back afterwards."""

    def __init__(self) -> None:
        self.wish = Wish.GO_ON
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._notice)
        return self

    def _notice(self, number: int, frame: FrameType | None) -> None:
        urgent = number == signal.SIGTERM or self.wish is not Wish.GO_ON
        self.wish = Wish.STOP_NOW if urgent else Wish.FINISH_RUNNING

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
