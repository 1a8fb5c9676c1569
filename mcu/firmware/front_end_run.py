"""The C front end in an emulator: what it costs on a core, and raw clips through it and a network to labels."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.firmware.build import section_sizes
from mcu.firmware.cores import Core
from mcu.firmware.emulator import emulator_command
from mcu.firmware.flags import COMPILE_FLAGS, KERNEL_SOURCES, LINK_FLAGS
from mcu.firmware.front_end import InputCode, write_front_end
from mcu.firmware.project import TEMPLATES, copy_sources
from mcu.firmware.toolchain import AVR, Toolchain, toolchain
from mcu.front_end import FrontEnd

RAM_SIZE = 256 * 1024
STACK_SIZE = 2048
TIMEOUT = 600.0

_FACT = re.compile(r"^([a-z_]+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class FrontEndRun:
    """What clips gave on an emulated board.

    Attributes:
        labels: class of each clip or step.
        outputs: int8 ``(n, bytes)``, the network's.
        frontend_instructions, model_instructions: of one clip or step, the largest.
    """

    labels: np.ndarray
    outputs: np.ndarray
    frontend_instructions: int
    model_instructions: int


@dataclass(frozen=True)
class FrontEndCost:
    """What the front end adds to a program on a core.

    Attributes:
        instructions: of one clip.
        flash, ram: bytes of code and tables, with the floating-point library where the core needs one, and of
            variables. The window of samples, two bytes each, is the application's.
    """

    instructions: int
    flash: int
    ram: int


def classify_in_qemu(
    folder: Path, clips: np.ndarray, core: Core, tools: Toolchain | None = None, step: int | None = None
) -> FrontEndRun:
    """Build model and front end of a project for an emulated board and let it label raw clips.

    Args:
        folder: what ``write_sound_project`` wrote.
        clips: int16 ``(n, samples)``; all must fit the board's flash. For a project that hears a stream the samples of
            each of its steps.
        core: with the DSP and floating-point instructions of the device in question.
        step: of a recording ``(1, samples)``, samples from the start of one clip to that of the next, which overlap.

    Raises:
        InputError: if a tool is missing (``ToolsMissing``).
        RuntimeError: if the program cannot be built, faults or does not end.
    """
    tools = tools or toolchain(core.architecture)
    out = folder / "build" / f"{core.name}-frontend"
    defines = () if step is None else (f"-DSTEP={step}",)
    elf = _build(folder, out, ("model.c", *KERNEL_SOURCES, "frontend.c"), clips, core, defines, tools)
    facts = _run_board(elf, core, tools)
    labels = np.array(facts.get("label", []), np.int64)
    if len(labels) != len(clips) and step is None:
        raise RuntimeError(f"front end test labelled {len(labels)} of {len(clips)} clips")
    outputs = (np.array(facts["output"]) - 128).astype(np.int8).reshape(len(labels), -1)
    return FrontEndRun(labels, outputs, _instructions(facts, "frontend"), _instructions(facts, "model"))


@lru_cache(maxsize=8)
def measure_front_end(front_end: FrontEnd, core: Core) -> FrontEndCost:
    """What the front end costs on a core: one loud clip of noise in an emulator, and a program with and without it.

    Errors as ``classify_in_qemu``.
    """
    if core.architecture is AVR:
        raise InputError(f"front end of sound on {core.name}: its floating-point arithmetic is for 32-bit cores only")
    tools = toolchain(core.architecture)
    noise = np.random.default_rng(0).normal(scale=3000, size=(1, front_end.samples)).clip(-32768, 32767)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_sources(folder)
        write_front_end(front_end, InputCode(mean=0.0, std=1.0, scale=0.1, zero_point=0), folder)
        clips = noise.astype(np.int16)
        alone = _build(folder, folder / "with", ("frontend.c",), clips, core, ("-DFRONTEND_ALONE",), tools)
        without = _build(folder, folder / "without", (), clips, core, ("-DFRONTEND_ALONE", "-DFRONTEND_NONE"), tools)
        facts = _run_board(alone, core, tools)
        sizes = [_flash_and_ram(section_sizes(elf, tools)) for elf in (alone, without)]
    flash, ram = (one - other for one, other in zip(*sizes, strict=True))
    return FrontEndCost(_instructions(facts, "frontend"), flash, ram)


def _flash_and_ram(sections: dict[str, int]) -> tuple[int, int]:
    data = sections.get(".data", 0)
    return sections.get(".text", 0) + sections.get(".ARM.exidx", 0) + data, data + sections.get(".bss", 0)


def _build(
    folder: Path,
    out: Path,
    parts: Sequence[str],
    clips: np.ndarray,
    core: Core,
    defines: Sequence[str],
    tools: Toolchain,
) -> Path:
    """Compile and link the test of the front end; returns the program."""
    board = core.stand_in or core.board
    out.mkdir(parents=True, exist_ok=True)
    test = TEMPLATES / "sound" / "frontend_test.c"
    (out / "frontend_test.c").write_bytes(test.read_bytes())
    (out / "clips.bin").write_bytes(clips.astype("<i2").tobytes())
    names = (*parts, *core.architecture.self_test)
    sources = [str((folder / name).resolve()) for name in names]
    gcc, include = str(tools.compiler()), f"-I{folder.resolve()}"
    _run(
        [
            gcc,
            *core.flags,
            *COMPILE_FLAGS,
            *core.architecture.compile_flags,
            *defines,
            include,
            "-c",
            *sources,
            "frontend_test.c",
        ],
        out,
    )
    symbols = {
        "FLASH_ORIGIN": board.flash_origin,
        "FLASH_SIZE": board.flash,
        "RAM_ORIGIN": board.ram_origin,
        "RAM_SIZE": min(board.ram, RAM_SIZE),
        "STACK_SIZE": STACK_SIZE,
    }
    memory = [f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()]
    objects = [f"{Path(name).stem}.o" for name in (*names, "frontend_test.c")]
    script = str((folder / "link.ld").resolve())
    flags = [script if flag == "link.ld" else flag for flag in (*core.architecture.link_flags, *LINK_FLAGS)]
    _run([gcc, *core.flags, *flags, *memory, *objects, "-o", "frontend_test.elf"], out)
    return out / "frontend_test.elf"


def _run_board(elf: Path, core: Core, tools: Toolchain) -> dict[str, list[int]]:
    command = emulator_command(elf, core.stand_in or core.board, tools)
    facts: dict[str, list[int]] = {}
    for name, number in _FACT.findall(_run(command, elf.parent)):
        facts.setdefault(name, []).append(int(number))
    return facts


def _instructions(facts: dict[str, list[int]], part: str) -> int:
    """Of the clip that took most."""
    ticks = max(facts[f"{part}_ticks"])
    if "clock_overflow" in facts:
        raise RuntimeError(f"front end test: {part} takes longer than the emulated board's clock can count")
    return round(ticks * facts["calibration_instructions"][0] / facts["calibration_ticks"][0])


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{Path(command[0]).name} did not end within {TIMEOUT:.0f} s") from None
    if result.returncode:
        raise RuntimeError(f"{Path(command[0]).name} fails:\n{(result.stderr or result.stdout)[-2000:]}")
    return result.stdout + result.stderr
