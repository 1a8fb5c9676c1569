"""Ctrl-C once: finish running trials. Twice, or SIGTERM: stop now. Finished results are kept in both cases."""

from __future__ import annotations

import signal
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any


class Wish(IntEnum):
    """The user's request."""

    GO_ON = 0
    FINISH_RUNNING = 1
    STOP_NOW = 2


class Interrupts:
    """Context that counts signals; the previous handlers are restored afterwards."""

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
