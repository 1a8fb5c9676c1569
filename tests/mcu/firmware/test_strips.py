"""Programs whose first operators run strip by strip: bit-exact, and as large and as fast as predicted."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mcu.cost import firmware_memory
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory
from mcu.cost.stage import stages_of
from mcu.devices import find_device
from mcu.firmware import (
    CORES,
    build,
    core_of,
    predict_firmware,
    predict_instructions,
    run_in_emulator,
    toolchain,
)
from mcu.firmware.calls import calls_of
from mcu.firmware.flags import HOST_FLAGS
from mcu.firmware.program import program_of
from mcu.firmware.project import write_project
from mcu.firmware.toolchain import ARCHITECTURES
from mcu.int8.model import Int8Model
from mcu.int8.structure import structure_of
from random_nets import assorted_windows, random_net, residual_net, separable_net

ADVICE = "; ".join(advice for item in ARCHITECTURES if (advice := toolchain(item).advice()))
needs_tools = pytest.mark.skipif(bool(ADVICE), reason=ADVICE)


def plans(model: Int8Model) -> list[FirmwarePlan]:
    """The memory of every stage that could run strip by strip."""
    structure = structure_of(model)
    return [firmware_memory._planned(structure, strips) for strips in stages_of(structure).strips]


@pytest.mark.parametrize("seed", range(8))
def test_every_stage_computes_what_the_reference_interpreter_computes(tmp_path: Path, kernels: Path, seed: int) -> None:
    model = assorted_windows(seed) if seed < 6 else random_net(seed)
    found = plans(model)
    shape = model.tensors[model.input].shape[1:]
    samples = np.random.default_rng(seed).integers(-128, 128, (3, *shape)).astype(np.int8)
    for index in sorted({0, len(found) // 2, len(found) - 1}):
        write_project(model, tmp_path, samples=samples, plan=found[index])
        objects = map(str, kernels.glob("*.o"))
        command = ["cc", *HOST_FLAGS, "-O1", "model.c", "selftest.c", *objects, "-o", "selftest_host"]
        subprocess.run(command, cwd=tmp_path, check=True)
        result = subprocess.run(["./selftest_host"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "wrong 0\n" in result.stdout, found[index].strips


@pytest.mark.parametrize("model", [residual_net(), separable_net(), assorted_windows(3)])
def test_no_row_is_computed_twice_and_weights_are_stored_once(tmp_path: Path, model: Int8Model) -> None:
    plan = plans(model)[-1]
    program = program_of(model, plan.strips)
    macs = [0] * len(calls_of(model))
    for loop in program:
        for placed in loop.calls:
            macs[placed.layer] += loop.times * placed.call.macs
    whole = [call.macs for call in calls_of(model)]
    assert all(strips <= of_all for strips, of_all in zip(macs, whole, strict=True))
    assert sum(macs) > 0.9 * sum(whole)  # rows at the bottom that no window reads are left out
    write_project(model, tmp_path)
    text = (tmp_path / "model.c").read_text()
    assert len(re.findall(r"int8_t weights_\d+\[", text)) == sum(op.weights is not None for op in model.ops)


@needs_tools
@pytest.mark.parametrize("name", ["stm32g071rb", "esp32-c3"])
def test_memory_flash_and_instructions_are_as_predicted(tmp_path: Path, name: str) -> None:
    device = replace(find_device(name), flash=16 << 20, sram=4 << 20, sram_bank=None)
    core = core_of(device)
    model = separable_net(width=24, blocks=2)
    plan = plan_memory(model)
    assert plan.strips is not None
    write_project(model, tmp_path, plan=plan)
    built, predicted = build(tmp_path, device), predict_firmware(model, core.name, plan)
    assert predicted == predict_firmware(structure_of(model), core.name, plan)
    assert built.ram_static == predicted.arena + 4
    assert predicted.ram == pytest.approx(built.ram, rel=0.002, abs=16)
    assert predicted.flash == pytest.approx(built.flash, rel=0.01)
    run = run_in_emulator(tmp_path, core, profile=True)
    assert run.bit_exact
    assert len(run.layers) == len(model.ops)
    assert predict_instructions(model, core, plan) == pytest.approx(run.instructions, rel=0.06)


def test_instructions_of_strips_are_those_of_whole_maps_and_some_more() -> None:
    model = residual_net()
    for core in CORES.values():
        whole, strips = (predict_instructions(model, core, plan_memory(model, by)) for by in (False, True))
        assert whole < strips < 1.12 * whole
