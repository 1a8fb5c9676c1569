"""Firmware built for devices and run on emulated boards. Needs compilers and QEMU; where absent it says so."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mcu.cost.firmware_memory import plan_memory
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import (
    CORES,
    FirmwareDoesNotFit,
    Toolchain,
    build,
    choose_plan,
    find_core,
    measure_firmware,
    predict_firmware,
    run_in_emulator,
    toolchain,
    write_project,
)
from mcu.firmware.build import section_sizes
from mcu.firmware.program import program_of
from mcu.firmware.stack import named_functions, stack_bytes
from mcu.firmware.toolchain import ARCHITECTURES, RISCV
from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.int8.structure import structure_of
from mcu.latency import estimate
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from random_nets import (
    RandomNet,
    every_operator_net,
    plain_net,
    random_net,
    residual_net,
    separable_net,
)

ADVICE = "; ".join(advice for item in ARCHITECTURES if (advice := toolchain(item).advice()))
if ADVICE:
    warnings.warn(f"firmware is not tested here: {ADVICE}", stacklevel=1)
needs_tools = pytest.mark.skipif(bool(ADVICE), reason=ADVICE)

PARTS = {
    "cortex-m0+": "stm32g071rb",
    "cortex-m3": "stm32f103c8",
    "cortex-m4f": "stm32f446re",
    "cortex-m7f": "stm32f746zg",
    "cortex-m33": "stm32u585ai",
    "riscv32imc": "esp32-c3",
    "avr5": "arduino-uno",
    "avr6": "arduino-mega",
}


def inputs(model: Int8Model, count: int = 2) -> np.ndarray:
    shape = model.tensors[model.input].shape[1:]
    return np.random.default_rng(1).integers(-128, 128, (count, *shape)).astype(np.int8)


@needs_tools
@pytest.mark.parametrize(
    "core",
    ["cortex-m0+", "cortex-m3", "cortex-m4f", "cortex-m7f", "cortex-m33", "cortex-m55", "riscv32imc", "avr5", "avr6"],
)
def test_every_operator_is_bit_exact_on_every_core(tmp_path: Path, core: str) -> None:
    model = every_operator_net(head=False)
    x = inputs(model)
    expected = ReferenceInterpreter(model).run(x)
    write_project(model, tmp_path, samples=x, expected=expected)
    run = run_in_emulator(tmp_path, CORES[core])
    assert run.bit_exact
    assert np.array_equal(run.outputs, expected.reshape(len(x), -1))
    assert len(np.unique(expected)) > 30


@needs_tools
@pytest.mark.parametrize("core", ["cortex-m4f", "cortex-m55"])
@pytest.mark.parametrize("seed", [20, 21])
def test_random_networks_are_bit_exact_on_vector_cores(tmp_path: Path, core: str, seed: int) -> None:
    model = random_net(seed)
    write_project(model, tmp_path, samples=inputs(model))
    assert run_in_emulator(tmp_path, CORES[core]).bit_exact


@needs_tools
@pytest.mark.parametrize("core", ["cortex-m4f", "cortex-m55"])
def test_few_channels_are_bit_exact_in_windows_of_every_clip(tmp_path: Path, core: str) -> None:
    net = RandomNet(np.random.default_rng(1))
    x = net.depthwise(net.input(9, 11, 1), (3, 3), dilation=(1, 2))
    x = net.conv(net.depthwise(net.depthwise(x, (4, 5), (2, 2)), (2, 3)), 23, (1, 1))
    x = net.conv(net.conv(x, 16, (1, 1)), 6, (1, 1))
    model = net.model(net.depthwise(net.conv(x, 3, (1, 1))))
    write_project(model, tmp_path, samples=inputs(model))
    assert run_in_emulator(tmp_path, CORES[core]).bit_exact


@needs_tools
def test_emulator_reports_a_wrong_output(tmp_path: Path) -> None:
    model = plain_net(size=8, width=4)
    x = inputs(model)
    expected = ReferenceInterpreter(model).run(x)
    expected.flat[0] ^= 1
    write_project(model, tmp_path, samples=x, expected=expected)
    assert not run_in_emulator(tmp_path, CORES["cortex-m3"]).bit_exact


@needs_tools
@pytest.mark.parametrize(
    ("core", "shape", "channels", "kernel", "most"),
    [
        ("cortex-m4f", (16, 16, 17), 17, (3, 3), 2.2),
        ("cortex-m4f", (24, 10, 1), 32, (10, 4), 2.6),
        ("cortex-m55", (16, 16, 17), 17, (3, 3), 0.35),
        ("cortex-m55", (16, 16, 16), 32, (1, 1), 0.35),
        ("cortex-m55", (8, 8, 24), 96, (1, 1), 0.33),
        ("cortex-m55", (5, 5, 17), 7, (1, 1), 0.9),  # channels and positions that are no whole groups
    ],
)
def test_convolutions_take_few_instructions_a_mac(
    tmp_path: Path, core: str, shape: tuple[int, int, int], channels: int, kernel: tuple[int, int], most: float
) -> None:
    net = RandomNet(np.random.default_rng(0))
    model = net.model(net.conv(net.input(*shape), channels, kernel))
    write_project(model, tmp_path, samples=inputs(model, 1))
    run = run_in_emulator(tmp_path, CORES[core])
    assert run.bit_exact
    assert 0.1 < run.instructions / model.macs() <= most


@needs_tools
def test_instruction_counts_repeat_and_split_into_layers(tmp_path: Path) -> None:
    model = plain_net(size=12, width=6)
    write_project(model, tmp_path, samples=inputs(model, 1))
    core = CORES["cortex-m4f"]
    first, second, layers = (run_in_emulator(tmp_path, core, profile=profile) for profile in (False, False, True))
    assert first.instructions == second.instructions
    assert len(layers.layers) == len(model.ops)
    called = sum(loop.times * len(loop.calls) for loop in program_of(model, choose_plan(model).plan.strips))
    slack = 60 * called + 2 * first.tick
    assert abs(sum(layers.layers) - first.instructions) < slack


@needs_tools
def test_measured_stack_stays_within_the_call_graph_bound(tmp_path: Path) -> None:
    model = every_operator_net()
    write_project(model, tmp_path, samples=inputs(model, 1))
    for name in ("cortex-m0+", "cortex-m4f", "riscv32imc"):
        run = run_in_emulator(tmp_path, CORES[name])
        graphs = list(next((tmp_path / "build").glob(f"{name.replace('+', 'plus')}-*")).glob("*.ci"))
        objects = next((tmp_path / "build").glob(f"{name.replace('+', 'plus')}-*/model.o"))
        named = named_functions(toolchain(CORES[name].architecture).relocations(objects))
        assert named["run_program"] >= {"convolution", "depthwise", "softmax"}
        bound = stack_bytes(graphs, named=named)
        kernels = max(stack_bytes(graphs, kernel) for kernel in ("convolution", "depthwise", "softmax"))
        assert kernels < run.stack <= bound + 8


@needs_tools
@pytest.mark.parametrize(
    ("name", "memory", "word"),
    [
        ("stm32f446re", "sram", "SRAM"),
        ("stm32f446re", "flash", "flash"),
        ("gd32vf103cb", "sram", "SRAM"),
        ("atmega2560", "sram", "SRAM"),
        ("atmega2560", "flash", "flash"),
    ],
)
def test_one_byte_too_many_fails_to_link_in_one_line(tmp_path: Path, name: str, memory: str, word: str) -> None:
    device = replace(find_device(name), sram_bank=None)
    write_project(plain_net(size=16), tmp_path)
    built = build(tmp_path, device)
    needed = built.ram if memory == "sram" else built.flash
    small = {"reserve_sram": 0} if memory == "sram" else {"reserve_flash": 0}
    assert build(tmp_path, replace(device, **{memory: needed}, **small)) == built
    with pytest.raises(FirmwareDoesNotFit, match=rf"{name}.*{word}.*over by 1") as refused:
        build(tmp_path, replace(device, **{memory: needed - 1}, **small))
    assert refused.value.over == {word: 1}
    assert "\n" not in str(refused.value)


@needs_tools
@pytest.mark.parametrize("core", ["cortex-m0+", "cortex-m4f", "cortex-m33", "riscv32imc"])
def test_flash_and_ram_are_as_predicted(tmp_path: Path, core: str) -> None:
    device = replace(find_device(PARTS[core]), sram=4 << 20, flash=16 << 20, sram_bank=None)
    models = (residual_net(), every_operator_net(), *((plain_net(), separable_net()) if core == "cortex-m4f" else ()))
    for index, model in enumerate(models):
        folder = tmp_path / str(index)
        write_project(model, folder)
        built = build(folder, device)
        plan = choose_plan(model).plan
        predicted = predict_firmware(model, core, plan)
        shapes = predict_firmware(structure_of(model), core, plan)  # which do not say how long a softmax table is
        assert (shapes.arena, shapes.stack) == (predicted.arena, predicted.stack)
        assert predicted.flash <= shapes.flash < predicted.flash + 1024
        assert predicted.flash == pytest.approx(built.flash, rel=0.002, abs=32)
        assert predicted.ram == pytest.approx(built.ram, rel=0.002, abs=16)


@needs_tools
def test_makefile_builds_what_build_builds(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this computer")
    write_project(plain_net(size=8), tmp_path)
    built = build(tmp_path, find_device("stm32f446re"))
    made = subprocess.run(["make", "DEVICE=stm32f446re"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    sections = section_sizes(tmp_path / "firmware.elf", toolchain())
    assert sections[".text"] == built.flash
    assert sections[".bss"] == built.ram_static
    command = ["make", "DEVICE=esp32-c3", "clean", "firmware.elf"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert section_sizes(tmp_path / "firmware.elf", toolchain(RISCV))[".bss"] == built.ram_static


@needs_tools
def test_measurement_adds_up(tmp_path: Path) -> None:
    model, device = plain_net(size=16, width=8), find_device("stm32f446re")
    found = measure_firmware(model, device, inputs(model), plan=plan_memory(model, by_strips=False))
    assert found.bit_exact
    assert found.board == "mps2-an386"
    assert found.instructions_per_mac == pytest.approx(found.instructions / model.macs())
    assert found.latency == estimate(found.instructions, CORES["cortex-m4f"].cycles, device.clock_hz)
    assert found.sram_firmware == pytest.approx(16 * 16 * 8 * 2, rel=0.25)
    assert len(found.layers) == len(model.ops)


@needs_tools
def test_riscv_computes_what_the_interpreter_computes() -> None:
    if not tflm.available():
        pytest.skip("tflite-micro is not installed")
    model = plain_net(size=8, width=4)
    x = inputs(model)
    found = measure_firmware(model, find_device("gd32vf103cb"), x, tflm.run(write_tflite(model), x))
    assert found.bit_exact
    assert found.board == "virt"
    assert found.stack_measured <= found.stack + 256
    called = sum(loop.times * len(loop.calls) for loop in program_of(model, choose_plan(model).plan.strips))
    assert found.instructions <= sum(found.layers) <= found.instructions + 40 * called


@needs_tools
def test_large_model_of_a_small_core_runs_on_a_larger_board(tmp_path: Path) -> None:
    model = plain_net(size=24, width=16)
    write_project(model, tmp_path, samples=inputs(model, 1), plan=plan_memory(model, by_strips=False))
    run = run_in_emulator(tmp_path, CORES["cortex-m0+"])
    assert run.bit_exact
    assert run.board == "mps2-an385"


def test_other_architectures_are_refused_by_name() -> None:
    model = plain_net(size=8)
    with pytest.raises(InputError, match=r"esp32.*xtensa.*Cortex-M, RISC-V .*, AVR .* only"):
        measure_firmware(model, find_device("esp32"), inputs(model))
    with pytest.raises(InputError, match="xtensa"):
        predict_firmware(model, "xtensa-lx6", plan_memory(model))


def test_missing_tools_name_the_packages(tmp_path: Path) -> None:
    write_project(plain_net(size=8), tmp_path)
    bare = Toolchain(gcc=None, runner=None)
    for action in (
        lambda: build(tmp_path, find_device("stm32f446re"), bare),
        lambda: run_in_emulator(tmp_path, find_core("cortex-m3"), tools=bare),
    ):
        with pytest.raises(InputError, match="apt-get install gcc-arm-none-eabi") as refused:
            action()
        assert "\n" not in str(refused.value)
