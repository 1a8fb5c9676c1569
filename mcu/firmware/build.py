"""Compiles a project and links it: for a device's real memory, and for the emulated board with the same core."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcu.devices import Device
from mcu.errors import InputError
from mcu.firmware.cores import Board, Core, core_of
from mcu.firmware.flags import COMPILE_FLAGS, KERNEL_SOURCES, LINK_FLAGS, flash_origin, ram_origin
from mcu.firmware.stack import named_functions, stack_bytes, stack_of_listing
from mcu.firmware.toolchain import AVR, Toolchain, toolchain

SELF_TEST_RAM = 16 * 1024
"""RAM of a self-test image beyond the arena: its stack, and little else."""

CONSTANTS = 64 * 1024
"""Bytes of flash that an AVR's pointers reach, from its start: vector table and constants."""
LARGEST_ARRAY = 2**15 - 1
"""Bytes of an array on an AVR, at most."""

_OVERFLOW = re.compile(r"region `(FLASH|RAM)' overflowed by (\d+) bytes?")
_MEMORY = {"FLASH": "flash", "RAM": "SRAM"}


class FirmwareDoesNotFit(InputError):  # noqa: N818
    """It is too large: ``over`` holds the bytes too many by memory, ``flash``, ``SRAM`` and/or ``constants``; nothing
    where a single array is too large."""

    def __init__(self, message: str, over: dict[str, int]) -> None:
        super().__init__(message)
        self.over = over


@dataclass(frozen=True)
class FirmwareBuild:
    """A linked application; bytes.

    Attributes:
        flash: vector table where there is one, code and constants.
        ram_static: arena and other variables.
        stack: deepest path of the call graph, reserved behind them.
    """

    flash: int
    ram_static: int
    stack: int
    elf: Path

    @property
    def ram(self) -> int:
        """Static RAM and stack."""
        return self.ram_static + self.stack


@dataclass(frozen=True)
class _Memory:
    flash_origin: int
    flash: int
    ram_origin: int
    ram: int


def build(folder: Path, device: Device, tools: Toolchain | None = None) -> FirmwareBuild:
    """Build the application of a project for a device, its flash and its (largest contiguous) SRAM.

    Args:
        folder: what ``write_project`` wrote; build outputs go to its ``build/`` folder.

    Raises:
        InputError: if firmware cannot be built for the device, a tool is missing (``ToolsMissing``), or the
            program does not fit (``FirmwareDoesNotFit``).
    """
    memory = _Memory(flash_origin(device), device.flash, ram_origin(device), device.sram_bank or device.sram)
    where = f"firmware on {device.name}"
    core = core_of(device)
    return build_for_core(folder, core, memory, where, tools or toolchain(core.architecture))


def build_for_core(folder: Path, core: Core, memory: _Memory, where: str, tools: Toolchain) -> FirmwareBuild:
    """``build`` with the core and the memory given; ``where`` begins the message if it does not fit."""
    out = folder / "build" / _directory(core)
    sound = ("frontend.c",) if (folder / "frontend.c").is_file() else ()
    sources = ("model.c", *KERNEL_SOURCES, *sound, "main.c", *core.architecture.startup)
    objects = _compile(folder, out, core, sources, (), tools)
    elf = out / "firmware.elf"
    if core.architecture is AVR:  # its compiler is too old to write call graphs
        _link(folder, elf, core, objects, memory, 0, where, tools)
        frames = (path.with_suffix(".su") for path in objects)
        stack = stack_of_listing(tools.listing(elf), frames, named=named_functions(tools.relocations(objects[0])))
    else:
        graphs = (path.with_suffix(".ci") for path in objects)
        stack = stack_bytes(graphs, named=named_functions(tools.relocations(objects[0])))
    stack = -(-stack // core.architecture.stack_alignment) * core.architecture.stack_alignment
    _link(folder, elf, core, objects, memory, stack, where, tools)
    sections = section_sizes(elf, tools)
    data = sections.get(".data", 0)
    return FirmwareBuild(
        flash=sections.get(".text", 0) + sections.get(".ARM.exidx", 0) + data,
        ram_static=data + sections.get(".bss", 0),
        stack=stack,
        elf=elf,
    )


def build_self_test(folder: Path, core: Core, board: Board, arena: int, profile: bool, tools: Toolchain) -> Path:
    """The same code with the self test as its application, for an emulated board.

    Args:
        arena: bytes of the model's arena: RAM is limited to that and ``SELF_TEST_RAM``.
        profile: whether every layer's instructions are counted as well.
    """
    out = folder / "build" / f"{_directory(core)}-{board.machine}{'-layers' if profile else ''}"
    defines = ("-DPRINT_OUTPUTS", *(("-DMODEL_PROFILE",) if profile else ()))
    defines += ("-DTRAP_UNALIGNED",) if board is core.stand_in else ()
    objects = _compile(
        folder, out, core, ("model.c", *KERNEL_SOURCES, "selftest.c", *core.architecture.self_test), defines, tools
    )
    memory = _Memory(board.flash_origin, board.flash, board.ram_origin, min(board.ram, arena + SELF_TEST_RAM))
    elf = out / "selftest.elf"
    _link(folder, elf, core, objects, memory, min(1024, board.ram // 4), f"self test on {board.machine}", tools)
    return elf


def section_sizes(elf: Path, tools: Toolchain) -> dict[str, int]:
    """Bytes of every section."""
    listing = _run([str(tools.size_tool()), "-A", str(elf)]).stdout
    rows = (line.split() for line in listing.splitlines() if line.startswith("."))
    return {row[0]: int(row[1]) for row in rows}


def _directory(core: Core) -> str:
    return "-".join([core.name.replace("+", "plus"), *(["nodsp"] if "nodsp" in core.flags[0] else [])])


def _compile(
    folder: Path, out: Path, core: Core, sources: Sequence[str], defines: Sequence[str], tools: Toolchain
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    paths = [str((folder / source).resolve()) for source in sources]
    flags = (*core.flags, *COMPILE_FLAGS, *core.architecture.compile_flags)
    result = _run([str(tools.compiler()), *flags, *defines, "-c", *paths], out)
    if "size of array" in result.stderr:
        what = "a table of weights, or the arena, is larger than"
        raise FirmwareDoesNotFit(f"firmware for {core.name}: {what} {LARGEST_ARRAY:,} bytes", {})
    if result.returncode:
        raise RuntimeError(f"the compiler refuses the generated C:\n{result.stderr[-2000:]}")
    return [(out / source).with_suffix(".o") for source in sources]


def _link(
    folder: Path,
    elf: Path,
    core: Core,
    objects: Sequence[Path],
    memory: _Memory,
    stack: int,
    where: str,
    tools: Toolchain,
) -> None:
    symbols = {
        "FLASH_ORIGIN": memory.flash_origin,
        "FLASH_SIZE": memory.flash,
        "RAM_ORIGIN": memory.ram_origin,
        "RAM_SIZE": memory.ram,
        "STACK_SIZE": stack,
    }
    defines = [f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()]
    paths = [str(path.resolve()) for path in objects]
    command = [
        str(tools.compiler()),
        *core.flags,
        *core.architecture.link_flags,
        *LINK_FLAGS,
        *defines,
        *paths,
        "-o",
        str(elf.resolve()),
    ]
    elf.unlink(missing_ok=True)
    result = _run(command, folder)
    sizes = {"flash": memory.flash, "SRAM": memory.ram, "constants": CONSTANTS}
    over = {_MEMORY[region]: int(count) for region, count in _OVERFLOW.findall(result.stderr)}
    if core.architecture is AVR:  # its linker says no amounts, but writes the program if told to
        if "will not fit in region" in result.stderr:
            _run([*command, "-Wl,--noinhibit-exec"], folder)
        over = _over(section_sizes(elf, tools), sizes) if elf.is_file() else {}
    if over:
        parts = [f"{name} {sizes[name]:,} bytes, over by {count:,}" for name, count in over.items()]
        raise FirmwareDoesNotFit(f"{where}: does not fit: {'; '.join(parts)}", over)
    if result.returncode:
        raise RuntimeError(f"the linker refuses the generated program:\n{result.stderr[-2000:]}")


def _over(sections: dict[str, int], sizes: dict[str, int]) -> dict[str, int]:
    """Bytes too many of an AVR's program, by memory."""
    data = sections.get(".data", 0)
    taken = {
        "flash": sections.get(".text", 0) + data,
        "SRAM": data + sections.get(".bss", 0) + sections.get(".stack", 0),
        "constants": sections.get(".reach", 0),
    }
    return {name: taken[name] - size for name, size in sizes.items() if taken[name] > size}


def _run(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
