"""The cores: how the compiler is called for each and which emulated board runs its code."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mcu.devices import Device, Simd
from mcu.errors import InputError
from mcu.firmware.toolchain import ARCHITECTURES, ARM, AVR, RISCV, Architecture
from mcu.latency import Cycles, cycles_of

KB = 1024
MB = 1024 * 1024


@dataclass(frozen=True)
class Board:
    """A machine that is emulated; memory regions in bytes.

    ``flash_origin`` is where it takes the vector table or the first instruction from; ``options`` are what else the
    emulator is told, such as the instructions its processor has.
    """

    machine: str
    flash_origin: int
    flash: int
    ram_origin: int
    ram: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Core:
    """A processor core.

    Attributes:
        name: as the device catalogue writes it.
        flags: what selects it, and the floating-point convention of its usual applications, for GCC; when compiling
            and when linking.
        board: emulated board with this core.
        stand_in: larger board for programs that do not fit the first; it executes the same instructions.
        instructions_per_mac: of a network that is not known, or whose instructions are not predicted. MEASURED in the
            emulator: the most that any of the three reference networks of docs/results/mcu/firmware.md, or
            firmware_avr.md, took, a depthwise-separable one.
    """

    name: str
    flags: tuple[str, ...]
    board: Board
    instructions_per_mac: float
    stand_in: Board | None = None
    architecture: Architecture = ARM

    @property
    def cycles(self) -> Cycles:
        """Cycles per instruction of int8 kernels, from public measurements where there are any."""
        return cycles_of(self.name)


_AN385 = Board("mps2-an385", 0x00000000, 4 * MB, 0x20000000, 4 * MB)
_AN386 = replace(_AN385, machine="mps2-an386")
_AN500 = replace(_AN385, machine="mps2-an500")
_AN505 = Board("mps2-an505", 0x10000000, 4 * MB, 0x38000000, 4 * MB)
_AN547 = Board("mps3-an547", 0x10000000, 512 * KB, 0x31000000, 2 * MB)
_PLAIN = ("-bios", "none", "-cpu", "rv32,f=off,d=off")
_VIRT_IMAC = Board("virt", 0x80000000, 16 * MB, 0x81000000, 16 * MB, _PLAIN)
_VIRT_IMC = replace(_VIRT_IMAC, options=(*_PLAIN[:-1], "rv32,a=off,f=off,d=off"))
_MICROBIT = Board("microbit", 0x00000000, 256 * KB, 0x20000000, 16 * KB)

_UNO = Board("atmega328p", 0x00000000, 32 * KB, 0x100, 2 * KB)
_1284P = Board("atmega1284p", 0x00000000, 128 * KB, 0x100, 16 * KB)
_MEGA = Board("atmega2560", 0x00000000, 256 * KB, 0x200, 8 * KB)

_SOFT = ("-mthumb", "-mfloat-abi=soft")
_HARD = ("-mthumb", "-mfloat-abi=hard")
_RISCV = ("-mabi=ilp32", "-msmall-data-limit=0", "--specs=picolibc.specs")

_CORES = (
    Core("cortex-m0", ("-mcpu=cortex-m0", *_SOFT), _MICROBIT, 9.7, _AN385),
    Core("cortex-m0+", ("-mcpu=cortex-m0plus", *_SOFT), _MICROBIT, 9.7, _AN385),
    Core("cortex-m3", ("-mcpu=cortex-m3", *_SOFT), _AN385, 4.0),
    Core("cortex-m4", ("-mcpu=cortex-m4", *_SOFT), _AN386, 2.6),
    Core("cortex-m4f", ("-mcpu=cortex-m4", *_HARD, "-mfpu=fpv4-sp-d16"), _AN386, 2.6),
    Core("cortex-m7", ("-mcpu=cortex-m7", *_SOFT), _AN500, 2.6),
    Core("cortex-m7f", ("-mcpu=cortex-m7", *_HARD, "-mfpu=fpv5-sp-d16"), _AN500, 2.6),
    Core("cortex-m33", ("-mcpu=cortex-m33", *_SOFT), _AN505, 2.6),
    Core("cortex-m55", ("-mcpu=cortex-m55", *_HARD), _AN547, 0.7),
    Core("riscv32imc", ("-march=rv32imc", *_RISCV), _VIRT_IMC, 5.6, architecture=RISCV),
    Core("riscv32imac", ("-march=rv32imac", *_RISCV), _VIRT_IMAC, 5.6, architecture=RISCV),
    Core("avr5", ("-mmcu=atmega328p",), _UNO, 92.2, _1284P, architecture=AVR),
    Core("avr6", ("-mmcu=atmega2560",), _MEGA, 94.3, architecture=AVR),
)
CORES = {core.name: core for core in _CORES}


def core_of(device: Device) -> Core:
    """The core of a device, without the DSP extension where the device lacks it.

    Raises:
        InputError: if firmware cannot be built for it.
    """
    core = find_core(device.core, f"device {device.name}")
    if core.name == "cortex-m33" and device.simd is Simd.NONE:
        return replace(core, flags=("-mcpu=cortex-m33+nodsp", *_SOFT))
    return core


def macs_within(device: Device, microseconds: int, cycles: Cycles | None = None) -> int:
    """Multiply-accumulates of a network that is not known, which a device can execute in that time; as
    ``instructions_within``, by the instructions per multiply-accumulate of its core."""
    return max(int(instructions_within(device, microseconds, cycles) / core_of(device).instructions_per_mac), 1)


def instructions_within(device: Device, microseconds: int, cycles: Cycles | None = None, before: int = 0) -> int:
    """Instructions a device can execute in that time, by its clock.

    Args:
        cycles: per instruction; None takes those of the core.
        before: instructions of the front end, which come out of the same time.

    Raises:
        InputError: if firmware cannot be built for it, or the time is too short for any.
    """
    per_instruction = (cycles or core_of(device).cycles).bound
    left = int(device.clock_hz * microseconds / 1_000_000 / per_instruction) - before
    if left < 1:
        taken = 1000 * before * per_instruction / device.clock_hz
        front = f" behind the {before:,} instructions of the front end, about {taken:.3g} ms" if before else ""
        raise InputError(f"latency of {microseconds / 1000:g} ms: {device.name} has no time for an instruction{front}")
    return left


def find_core(name: str, where: str = "core") -> Core:
    """The core called ``name``; ``where`` names its origin in the error.

    Raises:
        InputError: if firmware cannot be built for it.
    """
    core = CORES.get(name)
    if core is None:
        raise InputError(
            f"{where}: {name!r}: firmware is built for {', '.join(item.title for item in ARCHITECTURES)} only "
            f"({', '.join(CORES)}); every other figure is there for this device too"
        )
    return core
