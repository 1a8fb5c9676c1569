"""Runs a project's self test in an emulator: outputs, executed instructions or cycles, stack.

QEMU models neither cycles nor caches nor wait states. With ``-icount shift=0`` its clock advances by the same time for
every executed instruction, so that a board's clock (SysTick, or the RISC-V counter of instructions) counts
instructions, and counts the same in every run; the self test determines the number of instructions per tick by running
loops of known length. simavr counts the cycles of an AVR, which has neither caches nor wait states; the clock is a
timer, and the loops take out what its overflows add.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcu.firmware.build import FirmwareDoesNotFit, build_self_test
from mcu.firmware.cores import Board, Core
from mcu.firmware.toolchain import AVR, Toolchain, toolchain

TIMEOUT = 300.0
_ARENA = re.compile(r"^#define MODEL_ARENA_BYTES (\d+)$", re.MULTILINE)
_FACT = re.compile(r"^(?:O:)?([a-z_]+)((?: -?\d+)*)$", re.MULTILINE)


@dataclass(frozen=True)
class EmulatorRun:
    """What the self test reported.

    Attributes:
        outputs: int8 ``(N, bytes of all outputs)``.
        instructions: per inference, the largest over the samples, to within one tick; cycles where the emulator
            counts these (``Architecture.counted``).
        layers: per call of the call list, last sample; empty unless asked for.
        tick: instructions a tick: the resolution of the figures.
        stack: bytes of stack the inference touched, from its top (with the self test's own frames).
        bit_exact: whether all outputs are the expected ones.
        board: machine it ran on.
    """

    outputs: np.ndarray
    instructions: int
    layers: tuple[int, ...]
    tick: float
    stack: int
    bit_exact: bool
    board: str


def run_in_emulator(folder: Path, core: Core, *, profile: bool = False, tools: Toolchain | None = None) -> EmulatorRun:
    """Build and run the self test of a project.

    Args:
        folder: what ``write_project`` wrote.
        profile: count every layer's instructions as well (the calls of the clock add a few to each).

    Raises:
        InputError: if a tool is missing (``ToolsMissing``) or no emulated board has room (``FirmwareDoesNotFit``).
        RuntimeError: if the program faults or does not end.
    """
    tools = tools or toolchain(core.architecture)
    tools.emulator()  # says what is missing before anything is built
    found = _ARENA.search((folder / "model.h").read_text(encoding="ascii"))
    arena = int(found[1]) if found else 0
    board = _board_for(folder, core, arena)
    try:
        elf = build_self_test(folder, core, board, arena, profile, tools)
    except FirmwareDoesNotFit:
        if core.stand_in is None or board is core.stand_in:
            raise
        board = core.stand_in
        elf = build_self_test(folder, core, board, arena, profile, tools)
    return emulate(elf, board, tools)


def emulate(elf: Path, board: Board, tools: Toolchain) -> EmulatorRun:
    """Run a self test that is built. Errors as ``run_in_emulator``."""
    command = emulator_command(elf, board, tools)
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"self test on {board.machine} did not end within {TIMEOUT:.0f} s") from None
    return _read(result.stdout + result.stderr, board)


def emulator_command(elf: Path, board: Board, tools: Toolchain) -> list[str]:
    """The command that runs a program on a board. Raises InputError if the emulator is missing (``ToolsMissing``)."""
    if tools.architecture is AVR:
        return [str(tools.emulator()), "-m", board.machine, "-f", "16000000", str(elf)]
    command = [str(tools.emulator()), "-M", board.machine, *board.options, "-nographic", "-monitor", "none"]
    command += ["-serial", "none", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
    return [*command, "-kernel", str(elf)]


def _board_for(folder: Path, core: Core, arena: int) -> Board:
    """The core's own board if the model has room there, with some to spare, else its stand-in."""
    if core.stand_in is None:
        return core.board
    constants = (folder / "model.c").stat().st_size // 3  # a byte takes three characters or more
    vectors = (folder / "vectors.h").stat().st_size // 3
    fits = arena + core.board.ram * 3 // 16 <= core.board.ram and constants + vectors + 16384 <= core.board.flash
    return core.board if fits else core.stand_in


def _read(text: str, board: Board) -> EmulatorRun:
    facts: dict[str, list[list[int]]] = {}
    for name, numbers in _FACT.findall(text):
        facts.setdefault(name, []).append([int(number) for number in numbers.split()])
    if facts.get("stack") == [[-1]]:
        raise RuntimeError(f"self test on {board.machine}: its stack leaves no room")
    if "wrong" not in facts or "clock_overflow" in facts:
        raise RuntimeError(f"self test on {board.machine} did not finish: {text[-500:]!r}")
    tick = facts["calibration_instructions"][0][0] / facts["calibration_ticks"][0][0]
    return EmulatorRun(
        outputs=np.array(facts["output"], np.int8),
        instructions=round(max(row[0] for row in facts["ticks"]) * tick),
        layers=tuple(round(row[0] * tick) for row in facts.get("layer_ticks", [])),
        tick=tick,
        stack=facts["stack"][0][0],
        bit_exact=facts["wrong"][0][0] == 0,
        board=board.machine,
    )
