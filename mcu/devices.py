"""The catalogue of microcontrollers: vendor figures from ``devices.toml`` and what they leave for a model.

Reserve, unless a device states its own: a quarter of the flash, but at least 32 KB and at most 128 KB, and a quarter of
the SRAM, but at least 4 KB and at most 32 KB. The lower bounds are a small TensorFlow Lite Micro application (its core
is quoted at 16 KB on a Cortex-M3; convolution kernels, start-up code and drivers come on top) and its stack with a few
buffers; the upper bounds avoid reserving memory on large parts that no application needs.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.units import format_bytes, parse_bytes, parse_count

ENTRY_POINTS = "mcusweep.devices"
KB = 1024


class Simd(StrEnum):
    """Vector instructions that int8 kernels can use."""

    NONE = "none"
    DSP = "dsp"  # Armv7E-M or Armv8-M DSP extension: two 16-bit multiply-accumulates (SMLAD)
    MVE = "mve"  # Arm M-profile vector extension (Helium)
    PIE = "pie"  # ESP32-S3 128-bit vector instructions


@dataclass(frozen=True)
class Device:
    """A microcontroller; sizes in bytes, clock in hertz.

    Attributes:
        flash: program memory by the data sheet, or the board's external chip where ``external_flash``.
        sram: all on-chip SRAM by the data sheet.
        sram_bank: largest contiguous region, where the SRAM is not one piece: an arena cannot be larger.
        reserve_flash: kept for the runtime and the application.
        reserve_sram: kept for stack, drivers and the application.
        source: the vendor's document.
        aliases: other names, such as boards that carry it.
    """

    name: str
    vendor: str
    core: str
    simd: Simd
    clock_hz: int
    flash: int
    sram: int
    reserve_flash: int
    reserve_sram: int
    source: str
    sram_bank: int | None = None
    external_flash: bool = False
    aliases: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"device {self.name!r}: {field} = {value!r}: must be {low:,} to {high:,}")
        for field in ("name", "vendor", "core", "source"):
            if not isinstance(getattr(self, field), str) or not getattr(self, field).strip():
                raise InputError(f"device {self.name!r}: {field} must be a text that is not empty")
        for kind in ("flash", "sram"):
            total, reserve = getattr(self, kind), getattr(self, f"reserve_{kind}")
            if reserve >= total:
                raise InputError(f"device {self.name!r}: reserve_{kind} = {reserve:,} leaves nothing of {total:,}")
        if self.sram_bank is not None and not 0 < self.sram_bank <= self.sram:
            raise InputError(f"device {self.name!r}: sram_bank = {self.sram_bank:,}: must be 1 to {self.sram:,}")

    @property
    def firmware_only(self) -> bool:
        """Whether TensorFlow Lite Micro does not run on its core."""
        return self.core in _FIRMWARE_ONLY

    def budget(self) -> Budget:
        """What is left for the model: flash and SRAM less the reserve, the arena within one bank."""
        arena = self.sram - self.reserve_sram
        sram = min(arena, self.sram_bank or arena)
        return Budget(flash=self.flash - self.reserve_flash, sram=sram, device=self.name)

    def __str__(self) -> str:
        return f"{self.name} ({self.core}, {format_bytes(self.flash)} flash, {format_bytes(self.sram)} SRAM)"


_FIRMWARE_ONLY = frozenset({"avr5", "avr6"})
_RANGES = (
    ("clock_hz", 1_000_000, 3_000_000_000),
    ("flash", 8 * KB, 256 * KB * KB),
    ("sram", 1 * KB, 64 * KB * KB),
    ("reserve_flash", 0, 256 * KB * KB),
    ("reserve_sram", 0, 64 * KB * KB),
)
_REQUIRED = {"vendor", "core", "simd", "clock", "flash", "sram", "source"}
_OPTIONAL = {"reserve_flash", "reserve_sram", "sram_bank", "external_flash", "aliases", "note"}


def default_reserve_flash(flash: int) -> int:
    """Flash kept for runtime and application when the device states nothing (see the module's rule)."""
    return min(max(flash // 4, 32 * KB), 128 * KB)


def default_reserve_sram(sram: int) -> int:
    """SRAM kept for stack and application when the device states nothing (see the module's rule)."""
    return min(max(sram // 4, 4 * KB), 32 * KB)


def read_devices(text: str, where: str) -> tuple[Device, ...]:
    """Devices of a TOML text: one table a device, named by its key; ``where`` names it in errors.

    Raises:
        InputError: on a TOML error, a missing or unknown key, or a figure out of range.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}") from None
    return tuple(_device(name, table, where) for name, table in tables.items())


@cache
def catalogue() -> tuple[Device, ...]:
    """All known devices, sorted by name: ours, then those of the entry points ``mcusweep.devices``.

    An entry point loads to a ``Device``, an iterable of them, or a function returning either.

    Raises:
        InputError: when two devices share a name or alias, or an entry point yields something else.
    """
    devices = list(read_devices(files("mcu").joinpath("devices.toml").read_text("utf-8"), "mcu/devices.toml"))
    for entry in entry_points(group=ENTRY_POINTS):
        devices.extend(_plugin_devices(entry.name, entry.load()))
    seen: dict[str, str] = {}
    for device in devices:
        for name in (device.name, *device.aliases):
            if name in seen:
                raise InputError(f"device {device.name!r}: the name {name!r} is taken by {seen[name]!r}")
            seen[name] = device.name
    return tuple(sorted(devices, key=lambda device: device.name))


def find_device(name: str) -> Device:
    """The device of that name or alias; upper and lower case are the same.

    Raises:
        InputError: for an unknown name, with the closest known ones.
    """
    by_name = {alias: device for device in catalogue() for alias in (device.name, *device.aliases)}
    wanted = str(name).strip().lower()
    if wanted in by_name:
        return by_name[wanted]
    close = get_close_matches(wanted, by_name, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "`mcusweep devices` lists them"
    raise InputError(f"device {name!r} is not in the catalogue: {hint}")


def same_program(name: str) -> tuple[str, ...]:
    """Names of the devices on which our C program takes the same bytes and instructions as on this one.

    Those with its core and vector instructions; of a device that is not in the catalogue the device alone.
    """
    own = next((device for device in catalogue() if device.name == name), None)
    if own is None:
        return (name,)
    return tuple(device.name for device in catalogue() if (device.core, device.simd) == (own.core, own.simd))


def require_interpreter(device: Device) -> None:
    """Raise InputError if TensorFlow Lite Micro does not run on a device."""
    if device.firmware_only:
        raise InputError(
            f"device {device.name}: TensorFlow Lite Micro does not run on its core: allowed is runtime = 'firmware'"
        )


def _device(name: str, table: Any, where: str) -> Device:
    place = f"{where}: device {name!r}"
    if not isinstance(table, dict):
        raise InputError(f"{place}: must be a table")
    if name != name.lower():
        raise InputError(f"{place}: names are lower case")
    _check_table(table, place)
    try:
        flash, sram = parse_bytes(table["flash"]), parse_bytes(table["sram"])
        return Device(
            name=name,
            vendor=table["vendor"],
            core=table["core"],
            simd=Simd(table["simd"]),
            clock_hz=parse_count(str(table["clock"]).removesuffix("Hz")),
            flash=flash,
            sram=sram,
            reserve_flash=parse_bytes(table.get("reserve_flash", default_reserve_flash(flash))),
            reserve_sram=parse_bytes(table.get("reserve_sram", default_reserve_sram(sram))),
            source=table["source"],
            sram_bank=parse_bytes(table["sram_bank"]) if "sram_bank" in table else None,
            external_flash=table.get("external_flash", False),
            aliases=tuple(table.get("aliases", ())),
            note=table.get("note", ""),
        )
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_table(table: dict[str, Any], place: str) -> None:
    for key in sorted(table.keys() - _REQUIRED - _OPTIONAL):
        raise InputError(f"{place}: unknown key {key!r}: allowed are {', '.join(sorted(_REQUIRED | _OPTIONAL))}")
    for key in sorted(_REQUIRED - table.keys()):
        raise InputError(f"{place}: {key} is missing")
    aliases = table.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise InputError(f"{place}: aliases = {aliases!r}: must be a list of names")
    if not isinstance(table.get("external_flash", False), bool):
        raise InputError(f"{place}: external_flash = {table['external_flash']!r}: must be true or false")
    if table["simd"] not in list(Simd):
        raise InputError(f"{place}: simd = {table['simd']!r}: must be one of {', '.join(Simd)}")


def _plugin_devices(entry: str, loaded: Any) -> list[Device]:
    value = loaded() if callable(loaded) else loaded
    devices = [value] if isinstance(value, Device) else list(value)
    for device in devices:
        if not isinstance(device, Device):
            raise InputError(f"entry point {entry!r} of {ENTRY_POINTS}: {device!r} is not a Device")
    return devices
