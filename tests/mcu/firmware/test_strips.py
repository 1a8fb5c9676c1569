"""Programs whose first operators run strip by strip: bit-exact, and as large and as fast as predicted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from firmware import roomy_device

from mcu.cost.chain import stages_of
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory, plan_with
from mcu.cost.stage import Stage
from mcu.firmware import (
    CORES,
    build,
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


def chained(model: Int8Model, part: float, most: int | None = None) -> FirmwarePlan:
    """The plan of a stage that could run strip by strip, at a part of their list, and of those behind it."""
    structure = structure_of(model)
    every = [strips.stage for strips in stages_of(structure).strips]
    stages = [every[int(part * (len(every) - 1))]]
    for stage in every:
        if stage.first >= stages[-1].end:
            stages.append(stage)
    return plan_with(structure, stages[:most])


@pytest.mark.parametrize("seed", range(8))
def test_stages_compute_what_the_reference_interpreter_computes(tmp_path: Path, kernels: Path, seed: int) -> None:
    model = assorted_windows(seed) if seed < 6 else random_net(seed)
    shape = model.tensors[model.input].shape[1:]
    samples = np.random.default_rng(seed).integers(-128, 128, (3, *shape)).astype(np.int8)
    for plan in (chained(model, 0), chained(model, 0.3), chained(model, 0.6, 1)):
        write_project(model, tmp_path, samples=samples, plan=plan)
        objects = map(str, kernels.glob("*.o"))
        command = ["cc", *HOST_FLAGS, "-O1", "model.c", "selftest.c", *objects, "-o", "selftest_host"]
        subprocess.run(command, cwd=tmp_path, check=True)
        result = subprocess.run(["./selftest_host"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "wrong 0\n" in result.stdout, str(plan.strips)


@pytest.mark.parametrize("model", [residual_net(), separable_net(), assorted_windows(3)])
def test_no_row_is_computed_twice_and_weights_are_stored_once(tmp_path: Path, model: Int8Model) -> None:
    plan = chained(model, 0)
    assert len(plan.strips.links) > 1
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
@pytest.mark.parametrize("name", ["cortex-m4f", "cortex-m55", "riscv32imc", "avr6"])
def test_memory_flash_and_instructions_are_as_predicted(tmp_path: Path, name: str) -> None:
    core = CORES[name]
    device = roomy_device(core)
    model = separable_net(width=24, blocks=2)
    plan = plan_with(structure_of(model), [Stage(0, 3, 1), Stage(3, 5, 2)])
    write_project(model, tmp_path, plan=plan)
    built, predicted = build(tmp_path, device), predict_firmware(model, core.name, plan)
    assert predicted == predict_firmware(structure_of(model), core.name, plan)
    assert built.ram_static == predicted.arena + 4
    assert predicted.ram == pytest.approx(built.ram, rel=0.002, abs=16)
    assert predicted.flash == pytest.approx(built.flash, rel=0.002)
    run = run_in_emulator(tmp_path, core, profile=True)
    assert run.bit_exact
    assert len(run.layers) == len(model.ops)
    assert predict_instructions(model, core, plan) == pytest.approx(run.instructions, rel=0.05)


def test_instructions_of_strips_are_those_of_whole_maps_and_some_more() -> None:
    model = residual_net()
    for core in CORES.values():
        whole, strips = (predict_instructions(model, core, plan_memory(model, by)) for by in (False, True))
        assert whole < strips < 1.12 * whole
