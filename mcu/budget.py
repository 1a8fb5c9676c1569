"""Resources a model uses and the budgets they are held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mcu.errors import InputError

RESOURCES = ("flash", "sram", "macs")


@dataclass(frozen=True)
class Resources:
    """What one model uses: ``flash`` and ``sram`` in bytes, ``macs`` multiply-accumulates per inference."""

    flash: int
    sram: int
    macs: int

    def __iter__(self) -> Iterator[int]:
        return iter((self.flash, self.sram, self.macs))


@dataclass(frozen=True)
class Budget:
    """Upper bounds on resources; ``None`` leaves a resource unbounded.

    Raises:
        InputError: if a bound is not positive.
    """

    flash: int | None = None
    sram: int | None = None
    macs: int | None = None

    def __post_init__(self) -> None:
        for name, bound in self.bounds().items():
            if bound <= 0:
                raise InputError(f"budget {name} = {bound}: must be a positive number")

    def bounds(self) -> dict[str, int]:
        """The bounds that are set, by resource name."""
        return {name: getattr(self, name) for name in RESOURCES if getattr(self, name) is not None}

    def violation(self, used: Resources) -> float:
        """Sum over the bounds of ``max(0, used / bound - 1)``; 0 means feasible."""
        return sum(max(0.0, getattr(used, name) / bound - 1.0) for name, bound in self.bounds().items())

    def admits(self, used: Resources) -> bool:
        """Whether every bound holds."""
        return all(getattr(used, name) <= bound for name, bound in self.bounds().items())

    def binding_use(self, used: Resources) -> float | None:
        """Largest ``used / bound``: how much of the tightest bound is made use of (None without bounds)."""
        return max((getattr(used, name) / bound for name, bound in self.bounds().items()), default=None)
