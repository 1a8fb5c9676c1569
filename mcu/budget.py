"""Resources a model uses, and the budgets that bound them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mcu.errors import InputError
from mcu.units import format_bytes, format_count, parse_bytes, parse_count

RESOURCES = ("flash", "sram", "macs")
_TITLES = {"flash": "flash", "sram": "SRAM", "macs": "MACs"}


@dataclass(frozen=True)
class Resources:
    """What one model uses: ``flash`` and ``sram`` in bytes, ``macs`` multiply-accumulates per inference."""

    flash: int
    sram: int
    macs: int

    def __iter__(self) -> Iterator[int]:
        return iter((self.flash, self.sram, self.macs))


def amount(resource: str, value: float, *, rounded: bool = False) -> str:
    """An amount of a resource as text (see `mcu.units`): ``64KB``, ``4.4M``, or ``rounded`` to ``62.1 KB``."""
    return (format_count if resource == "macs" else format_bytes)(value, rounded=rounded)


def amounts(values: Mapping[str, float]) -> str:
    """Amounts of several resources as text: ``64KB flash, 32KB SRAM, 4.4M MACs``."""
    return ", ".join(f"{amount(resource, value)} {_TITLES[resource]}" for resource, value in values.items())


@dataclass(frozen=True, init=False)
class Budget:
    """Upper bounds on resources; ``None`` leaves a resource unbounded. Equal bounds are equal budgets.

    ``flash`` and ``sram`` are bytes, ``macs`` multiply-accumulates per inference: numbers, or texts with a unit such
    as ``"64KB"`` and ``"4.4M"`` (see `mcu.units`).

    Attributes:
        name: a name chosen by the user.
        device: name, in the device catalogue, of the device whose limits these are.

    Raises:
        InputError: naming the bound that cannot be read or is not positive.
    """

    flash: int | None
    sram: int | None
    macs: int | None
    name: str | None = field(compare=False)
    device: str | None = field(compare=False)

    def __init__(
        self,
        flash: str | float | None = None,
        sram: str | float | None = None,
        macs: str | float | None = None,
        *,
        name: str | None = None,
        device: str | None = None,
    ) -> None:
        bounds = {key: _bound(key, given) for key, given in (("flash", flash), ("sram", sram), ("macs", macs))}
        for key, value in {**bounds, "name": name, "device": device}.items():
            object.__setattr__(self, key, value)

    def __str__(self) -> str:
        """The bounds: ``64KB flash, 32KB SRAM, 4.4M MACs``; those left open are not named."""
        return amounts(self.bounds()) or "no bound"

    @property
    def label(self) -> str:
        """Its name, else its device, else its bounds: identifies the budget within a sweep."""
        return self.name or self.device or str(self)

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
        """Largest ``used / bound``: utilisation of the tightest bound (None without bounds)."""
        return max((getattr(used, name) / bound for name, bound in self.bounds().items()), default=None)


def _bound(resource: str, given: str | float | None) -> int | None:
    if given is None:
        return None
    try:
        bound = (parse_count if resource == "macs" else parse_bytes)(given)
    except InputError as error:
        raise InputError(f"{resource}: {error}") from None
    if bound <= 0:
        raise InputError(f"{resource} = {given!r}: must be more than 0")
    return bound
