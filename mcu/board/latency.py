"""The measured latency of a model on a board, as it is stored beside the model."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from mcu.errors import InputError

LATENCY = "latency"
"""Name among a trial's files of what boards measured."""

MOST_BOARDS = 64
_LONGEST = 200


@dataclass(frozen=True)
class MeasuredLatency:
    """Inferences timed on a board.

    Attributes:
        device: microcontroller, as the catalogue names it.
        port: serial line, as it was named.
        at: when, ISO 8601 in UTC.
        runs: timed inferences.
        microseconds, least, most: median and range of one inference.
        core_hz: clock of the processor as its program knew it; None if it did not.
    """

    device: str
    port: str
    at: str
    runs: int
    microseconds: float
    least: float
    most: float
    core_hz: int | None = None

    def __post_init__(self) -> None:
        texts = (self.device, self.port, self.at)
        times = (self.least, self.microseconds, self.most)
        sound = (
            all(isinstance(text, str) and 0 < len(text) <= _LONGEST and text.isprintable() for text in texts)
            and all(isinstance(time, int | float) and math.isfinite(time) and time > 0 for time in times)
            and isinstance(self.runs, int)
            and self.runs > 0
            and (self.core_hz is None or (isinstance(self.core_hz, int) and self.core_hz > 0))
        )
        if not sound or not self.least <= self.microseconds <= self.most:
            raise InputError(f"measured latency: {self!r:.300} is none")

    @property
    def milliseconds(self) -> float:
        """Median of an inference."""
        return self.microseconds / 1000.0

    def origin(self) -> str:
        """``measured on /dev/ttyACM0 at 2026-11-28, 20 runs``."""
        return f"measured on {self.port} at {self.at[:10]}, {self.runs} runs"


def write_latencies(measured: tuple[MeasuredLatency, ...]) -> bytes:
    """The latencies of a model, one for each device, as JSON."""
    return (json.dumps([asdict(one) for one in measured], indent=1) + "\n").encode()


def read_latencies(data: bytes, where: str) -> tuple[MeasuredLatency, ...]:
    """What ``write_latencies`` wrote.

    Raises:
        InputError: it is something else; ``where`` names it.
    """
    names = {field.name for field in fields(MeasuredLatency)}
    try:
        rows: Any = json.loads(data)
        if not isinstance(rows, list) or len(rows) > MOST_BOARDS or not all(set(row) <= names for row in rows):
            raise ValueError("not a list of latencies")
        return tuple(MeasuredLatency(**row) for row in rows)
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise InputError(f"{where}: no measured latencies ({str(error)[:120]})") from None


def with_latency(old: tuple[MeasuredLatency, ...], new: MeasuredLatency) -> tuple[MeasuredLatency, ...]:
    """The latencies with a new one, which replaces that of the same device."""
    return (*[one for one in old if one.device != new.device][-(MOST_BOARDS - 1) :], new)
