"""Latency of a model on a device: measured on a board where it was, else estimated from instructions."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SYMMETRIC = 0.02
"""Difference between the distances of both ends, relative to the value, below which one error is shown for both."""

ESTIMATED = "estimated"
COUNTED = "counted"
"""Source of a core whose emulator counts cycles in place of instructions."""


@dataclass(frozen=True)
class Ranged:
    """A figure with its error: ``value`` (None in an interval) between ``low`` and ``high``."""

    value: float | None
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The value, or the middle of the interval where there is none."""
        return (self.low + self.high) / 2 if self.value is None else self.value


@dataclass(frozen=True)
class Cycles(Ranged):
    """Cycles per instruction of a core, or of one device.

    Attributes:
        value: None where nothing was measured, and the ends are what its pipeline allows.
        low, high: what most programs are within.
        source: what the figures rest on.
    """

    source: str

    @property
    def bound(self) -> float:
        """What a bound on latency calculates with: the value, or the end of the interval if there is none."""
        return self.high if self.value is None else self.value

    @property
    def counted(self) -> str:
        """What the emulator counts of a program: instructions, or cycles in their place."""
        return "cycles" if self.source == COUNTED else "instructions"

    def text(self) -> str:
        """``1.2 cycles an instruction ± 15 % (CMSIS-NN on STM32L4R5)``; ``cycles, counted``."""
        if self.source == COUNTED:
            return "cycles, counted"
        return f"{spread(self.value, self.low, self.high, 'cycles an instruction')} ({self.source})"


@dataclass(frozen=True)
class Latency(Ranged):
    """Milliseconds of one inference, and where the figure comes from."""

    origin: str

    def text(self) -> str:
        """``21.4 ms ± 15 %``, ``14 to 40 ms``."""
        unit, scale = ("s", 1000.0) if self.low >= 1000 else ("ms", 1.0)
        value = None if self.value is None else self.value / scale
        return spread(value, self.low / scale, self.high / scale, unit)

    def told(self) -> str:
        """The same, with ``about`` before an estimate."""
        return f"about {self.text()}" if self.origin.startswith(ESTIMATED) else self.text()


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((files("mcu") / "cycles.toml").read_text("utf-8"))


@cache
def cycles_of(core: str) -> Cycles:
    """Cycles per instruction of a core that firmware is built for, as docs/results/mcu/cycles.md derives them."""
    row = _table()[core]
    return Cycles(row.get("value"), row["low"], row["high"], row["source"])


def spread(value: float | None, low: float, high: float, unit: str) -> str:
    """A figure with its error: as one percentage where both sides are equally far, else as an interval."""
    if value is None:
        return f"{low:.2g} to {high:.2g} {unit}"
    if low == high:
        return f"{value:.3g} {unit}"
    below, above = 1 - low / value, high / value - 1
    if abs(above - below) <= SYMMETRIC:
        return f"{value:.3g} {unit} ± {100 * max(below, above):.0f} %"
    return f"{value:.3g} {unit} ({low:.2g} to {high:.2g})"


def against_bound(network: float, front_end: float, bound: float, *, counts: bool) -> str:
    """``within the bound of 50 ms`` or ``over`` it.

    Args:
        network, front_end: milliseconds; the front end of sound takes its share of the bound if it ``counts``.
    """
    place = "within" if network + front_end * counts <= bound else "over"
    return f"{place} the bound of {bound:g} ms" + (" on the network alone" if front_end and not counts else "")


def estimate(instructions: float, cycles: Cycles, clock_hz: float) -> Latency:
    """``instructions * cycles / clock_hz``; caches and flash wait states are in it as far as in the cycles."""
    scale = 1000.0 * instructions / clock_hz
    value = None if cycles.value is None else scale * cycles.value
    how = "" if cycles.source == COUNTED else f"{ESTIMATED}: "
    origin = f"{how}{cycles.text()} at {clock_hz / 1e6:g} MHz"
    return Latency(value, scale * cycles.low, scale * cycles.high, origin)
