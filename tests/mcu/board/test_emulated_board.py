"""The serial self test of an exported library on emulated boards: built as a user would, asked over a pty."""

from __future__ import annotations

import re
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mcu.board import Session, open_port
from mcu.errors import InputError
from mcu.firmware import CORES, Core, toolchain
from mcu.firmware.flags import LINK_FLAGS, WARNINGS
from mcu.firmware.library import LibraryFormat, LibraryModel, identity_of, write_library
from mcu.firmware.project import copy_sources
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite.writer import write_tflite
from random_nets import plain_net

pytest.importorskip("serial", reason="pyserial is not installed")

CMSDK = """
#include <stdint.h>
#define UART ((volatile uint32_t *)0x40004000U)
#define TIMER ((volatile uint32_t *)0x40000000U)
void board_put(char letter);
int32_t board_get(void);
uint32_t board_ticks(void);
static void start(void)
{
    if (UART[2] == 0U) {
        UART[4] = 16U;
        UART[2] = 3U;
        TIMER[2] = 0xFFFFFFFFU;
        TIMER[1] = 0xFFFFFFFFU;
        TIMER[0] = 1U;
    }
}
void board_put(char letter) { start(); while ((UART[1] & 1U) != 0U) { } UART[0] = (uint32_t)letter; }
int32_t board_get(void) { start(); return ((UART[1] & 2U) != 0U) ? (int32_t)(UART[0] & 0xFFU) : -1; }
uint32_t board_ticks(void) { return ~TIMER[1]; }
"""
VIRT = """
#include <stdint.h>
#define UART ((volatile uint8_t *)0x10000000U)
#define TIME (*(volatile uint32_t *)0x0200BFF8U)
void board_put(char letter);
int32_t board_get(void);
uint32_t board_ticks(void);
void board_put(char letter) { while ((UART[5] & 0x20U) == 0U) { } UART[0] = (uint8_t)letter; }
int32_t board_get(void) { return ((UART[5] & 1U) != 0U) ? (int32_t)UART[0] : -1; }
uint32_t board_ticks(void) { return TIME; }
"""
BOARDS = {"cortex-m4f": (CMSDK, 25_000_000), "riscv32imc": (VIRT, 10_000_000)}
MODELS = {"digits": plain_net(size=8, width=4), "larger": plain_net(size=16, width=8)}


def build(folder: Path, core: Core, hooks: str, rate: int) -> Path:
    models = [LibraryModel(name, model) for name, model in MODELS.items()]
    write_library(models, folder, LibraryFormat.CMAKE)
    copy_sources(folder)
    (folder / "hooks.c").write_text(hooks)
    tools, board = toolchain(core.architecture), core.stand_in or core.board
    memory = {"FLASH_ORIGIN": board.flash_origin, "FLASH_SIZE": 1 << 20, "RAM_ORIGIN": board.ram_origin}
    memory |= {"RAM_SIZE": 1 << 18, "STACK_SIZE": 4096}
    symbols = [f"-Wl,--defsym={key}={value:#x}" for key, value in memory.items()]
    flags = [*core.flags, "-std=c11", "-O2", *WARNINGS, f"-DBOARD_TICKS_PER_SECOND={rate}U", "-Isrc"]
    flags += ["-DBOARD_CORE_HZ=48000000U", "-ffunction-sections", "-fdata-sections"]
    sources = ["src/mcusweep_model.c", "src/mcusweep_self_test.c", "examples/measure.c", "hooks.c"]
    linked = [*core.architecture.link_flags, *LINK_FLAGS, *symbols, *core.architecture.startup]
    command = [str(tools.compiler()), *flags, *sources, *linked, "-o", "image.elf"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "image.elf"


@contextmanager
def running(elf: Path, core: Core) -> Iterator[str]:
    """The port of an emulated board."""
    board = core.stand_in or core.board
    command = [str(toolchain(core.architecture).emulator()), "-M", board.machine, *board.options, "-display", "none"]
    command += ["-monitor", "none", "-serial", "pty", "-kernel", str(elf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            found = re.search(r"/dev/pts/\d+", emulator.stdout.readline())
            assert found
            yield found[0]
        finally:
            emulator.kill()


@pytest.mark.parametrize("name", BOARDS)
def test_a_real_build_says_what_it_is_and_measures_itself(tmp_path: Path, name: str) -> None:
    core, (hooks, rate) = CORES[name], BOARDS[name]
    if advice := toolchain(core.architecture).advice():
        pytest.skip(advice)
    with running(build(tmp_path, core, hooks, rate), core) as port, open_port(port) as line:
        session = Session(line, port)
        board = session.identify()
        assert (board.ticks_per_second, board.core_hz) == (rate, 48_000_000)
        assert [model.name for model in board.models] == list(MODELS)
        for model in board.models:
            assert model.identity == identity_of(write_tflite(MODELS[model.name]))
            run = session.measure(board, model, 5)
            assert (len(run.ticks), min(run.ticks) > 0, run.wrong) == (5, True, (0,) * model.vectors)
            tensor = MODELS[model.name].tensors[MODELS[model.name].input]
            codes = ((np.arange(2 * tensor.bytes) * 7919 // 64) % 256 - 128).astype(np.int8)
            outputs = ReferenceInterpreter(MODELS[model.name]).run(codes.reshape(2, *tensor.shape[1:]))
            assert run.checks == tuple(zlib.crc32(output.tobytes()) for output in outputs)
        with pytest.raises(InputError, match="the hook's ticks_per_second is wrong"):
            session.measure(replace(board, ticks_per_second=rate // 1000), board.models[1], 5)
