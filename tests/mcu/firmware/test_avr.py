"""Firmware on AVRs: models for an Arduino's memory, counted in cycles; what does not fit their flash and pointers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import (
    CORES,
    FirmwareDoesNotFit,
    build,
    choose_plan,
    measure_firmware,
    predict_firmware,
    predict_instructions,
    toolchain,
)
from mcu.firmware.build import section_sizes
from mcu.firmware.front_end_run import measure_front_end
from mcu.firmware.project import write_project
from mcu.firmware.stack import called_functions, function_bytes, stack_of_listing
from mcu.firmware.toolchain import AVR
from mcu.front_end import FrontEnd
from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.runtime import Runtime
from mcu.terms import RuntimeName
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from random_nets import RandomNet
from search_spaces.budgets import BudgetsSection

ADVICE = toolchain(AVR).advice() or ""
needs_tools = pytest.mark.skipif(bool(ADVICE), reason=ADVICE)

LISTING = """
00000000 <main>:
   0:\t0e 94 04 00 \tcall\t0x8\t; 0x8 <outer>
   4:\t00 d0       \trcall\t.+0      \t; 0x6 <main+0x6>
   6:\t08 95       \tret

00000008 <outer>:
   8:\t0f 93       \tpush\tr16
   a:\t0c 94 08 00 \tjmp\t0x10\t; 0x10 <__library>

00000010 <__library>:
  10:\t0f 93       \tpush\tr16
  12:\t1f 93       \tpush\tr17
  14:\t08 95       \tret

00000016 <end>:
"""


def small_net() -> Int8Model:
    """Separable, 12x12 to 4 classes; a few hundred bytes of activations."""
    net = RandomNet(np.random.default_rng(0))
    x = net.depthwise(net.conv(net.input(12, 12, 1), 6, (3, 3), (2, 2)))
    x = net.mean(net.add(net.conv(x, 8, (1, 1)), net.conv(x, 8)))
    return net.model(net.softmax(net.dense(net.reshape(x, (1, 8)), 4)))


def dense_net(inputs: int, *outputs: int) -> Int8Model:
    net = RandomNet(np.random.default_rng(0))
    x = net.reshape(net.input(1, 1, inputs), (1, inputs))
    for count in outputs:
        x = net.dense(x, count)
    return net.model(x)


@needs_tools
def test_a_small_model_runs_on_an_uno_as_the_interpreter_runs_it_and_costs_what_was_predicted(tmp_path: Path) -> None:
    model, device = small_net(), find_device("arduino-uno")
    x = np.random.default_rng(1).integers(-128, 128, (3, 12, 12, 1)).astype(np.int8)
    expected = tflm.run(write_tflite(model), x) if tflm.available() else ReferenceInterpreter(model).run(x)
    found = measure_firmware(model, device, x, expected, folder=tmp_path)
    assert found.bit_exact
    assert found.board == "atmega328p"
    assert found.sram_firmware <= 1536
    assert found.latency.value == found.latency.high == pytest.approx(1e3 * found.instructions / 16e6)
    assert found.latency.origin == "cycles, counted at 16 MHz"
    assert found.stack <= found.stack_measured <= found.stack + 64  # with the self test's own frames
    plan = choose_plan(model).plan
    predicted = predict_firmware(model, "avr5", plan)
    assert predicted.flash == pytest.approx(found.flash_firmware, rel=0.005)  # a table of softmax is at most as long
    assert predicted.ram == found.sram_firmware
    assert predict_instructions(model, CORES["avr5"], plan) == pytest.approx(found.instructions, rel=0.05)
    if shutil.which("make"):
        command = ["make", "DEVICE=atmega328p"]
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        sections = section_sizes(tmp_path / "firmware.elf", toolchain(AVR))
        assert sections[".text"] + sections.get(".data", 0) == found.flash_firmware


@needs_tools
def test_constants_that_pointers_do_not_reach_are_refused_in_one_line(tmp_path: Path) -> None:
    write_project(dense_net(700, 46, 700), tmp_path)
    with pytest.raises(FirmwareDoesNotFit, match=r"firmware on atmega2560: does not fit: constants 65,536 bytes, over"):
        build(tmp_path, find_device("arduino-mega"))


@needs_tools
def test_a_table_larger_than_an_array_may_be_is_refused_in_one_line(tmp_path: Path) -> None:
    write_project(dense_net(720, 46), tmp_path)
    with pytest.raises(FirmwareDoesNotFit, match=r"^firmware for avr6: a table of weights.* larger than 32,767 bytes$"):
        build(tmp_path, find_device("arduino-mega"))


def test_a_dilation_beyond_the_kernels_indices_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    net = RandomNet(np.random.default_rng(0))
    model = net.model(net.conv(net.input(5, 5, 1), 2, dilation=(1, 16_000)))
    with pytest.raises(InputError, match=r"layer .*: dilation = 16,000 is too large for the firmware's kernels"):
        write_project(model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_interpreter_is_refused_where_it_does_not_run() -> None:
    with pytest.raises(InputError, match=r"atmega328p.*TensorFlow Lite Micro.*runtime = 'firmware'"):
        Runtime(RuntimeName.TFLM, "arduino-uno")
    with pytest.raises(ValueError, match=r"atmega328p.*runtime = 'firmware'"):
        BudgetsSection.model_validate({"devices": ["arduino-uno"]})
    with pytest.raises(InputError, match=r"front end of sound on avr5.*32-bit cores only"):
        measure_front_end(FrontEnd(), CORES["avr5"])
    assert Runtime(RuntimeName.FIRMWARE, "arduino-uno").device == "arduino-uno"


def test_stack_and_sizes_follow_from_a_disassembled_program(tmp_path: Path) -> None:
    frames = tmp_path / "a.su"
    frames.write_text("a.c:1:5:main\t2\tstatic\na.c:3:5:outer\t7\tstatic\n")
    assert stack_of_listing(LISTING, [frames]) == 2 + 7 + (2 + 2)  # the library's: a return address, two registers
    assert called_functions(LISTING, "main") == {"outer", "__library"}
    assert function_bytes(LISTING) == {"main": 8, "outer": 8, "__library": 6}
