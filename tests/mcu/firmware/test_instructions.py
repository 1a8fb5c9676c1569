"""Instructions predicted from loop counts: the counts by hand, the sums beside the emulator's."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mcu.cost.firmware_memory import plan_memory
from mcu.errors import InputError
from mcu.firmware import CORES, choose_plan, predict_instructions, run_in_emulator, toolchain, write_project
from mcu.firmware.calls import calls_of
from mcu.firmware.code_sizes import KERNELS
from mcu.firmware.instructions import COSTS, SAME_CODE, loop_counts
from random_nets import RandomNet, every_operator_net, random_net


def test_loops_of_a_convolution_are_counted_as_the_kernel_runs_them() -> None:
    net = RandomNet(np.random.default_rng(0))
    call = calls_of(net.model(net.conv(net.input(4, 6, 5), 3)))[0]  # 3x3, SAME: windows clipped at each border
    # rows 1 and 2 together; of rows 0 and 3, of two rows of taps each, columns 1 and 2, 3 and 4 together, 0 and 5 alone
    assert loop_counts(call, "cortex-m3") == (
        *(1, 4),
        *(4, 2 * 4, 0, 2 * 4 * 2, 2 * 4 * 2 * 10, 0),
        *(6 + 4, 2 * (6 + 4), 0, 2 * (3 * 6 + 4 * 2), 2 * (3 * (4 * 15 + 2 * 10) + 4 * 2 * 15), 0),
    )
    blocks_of_four = loop_counts(call, "cortex-m4f")
    assert blocks_of_four[6:8] == (2 * 4 * 2 * 2, 2 * 4 * 2 * 2)  # ten values: two blocks and two
    assert blocks_of_four[12:14] == (2 * (3 * 16 + 4 * 6), 2 * (3 * 16 + 4 * 6))
    assert sum(loop_counts(call, "cortex-m0+")[8:]) == 0  # one position at a time


def test_loops_of_a_first_layer_are_counted_as_the_kernel_runs_them() -> None:
    net = RandomNet(np.random.default_rng(0))
    call = calls_of(net.model(net.conv(net.input(4, 6, 2), 5)))[0]
    copied = (4, 24, 10 * 6, 10 * 16 * 2, (24 - 2 * 4) * 18)  # 3x3, of which 8 windows are whole
    assert call.function == "narrow"
    assert loop_counts(call, "cortex-m3") == (1, *copied, 0, 0, 0, 0, 12, 12 * 3, 12 * 3 * 18, 0, 0)
    assert loop_counts(call, "cortex-m55") == (1, *copied, 0, 0, 0, 0, 6, 6 * 5, 6 * 5, 6 * 5, 0)


def test_first_layers_take_a_kernel_of_their_own_unless_it_is_one_of_many_convolutions() -> None:
    def kernels(*, separable: bool) -> list[str]:
        net = RandomNet(np.random.default_rng(0))
        x = net.conv(net.input(8, 8, 3), 8)
        x = net.depthwise(x) if separable else net.conv(x, 8)
        return [call.function for call in calls_of(net.model(net.conv(x, 8, (1, 1))))]

    assert kernels(separable=True) == ["narrow", "depthwise", "pointwise"]
    assert kernels(separable=False) == ["convolution"] * 3


def test_every_kernel_has_counts_and_a_cost_for_each_on_every_core() -> None:
    calls = {call.function: call for call in calls_of(every_operator_net())}
    assert set(calls) == set(KERNELS)
    tables = tomllib.loads((files("mcu.firmware") / COSTS).read_text("ascii"))
    for core in CORES:
        counted = {name: len(loop_counts(call, core)) for name, call in calls.items()}
        assert {name: len(costs) for name, costs in tables[SAME_CODE.get(core, core)].items()} == counted


def test_loops_of_slice_and_gather_are_counted_as_the_kernels_run_them() -> None:
    net = RandomNet(np.random.default_rng(0))
    part = net.slice(net.input(7, 9, 5), (1, 2), (2, 1), (3, 4))
    slice_, gather = calls_of(net.model(net.gather(part, (4, 0, 0))))
    assert loop_counts(slice_, "cortex-m3") == (1, 3, 3 * 4, 3 * 4 * 5)  # what is kept, not what is skipped
    assert loop_counts(gather, "cortex-m3") == (1, 3 * 4, 3 * 4 * 3)


def test_predicted_instructions_exceed_half_the_macs_on_every_core() -> None:
    model = every_operator_net()
    for core in CORES.values():
        assert predict_instructions(model, core, plan_memory(model)) > model.macs() / 2


@pytest.mark.parametrize(("name", "seed"), [("cortex-m4f", 2), ("cortex-m0+", 4), ("riscv32imc", 6), ("avr5", 6)])
def test_prediction_is_within_five_percent_of_the_emulator(tmp_path: Path, name: str, seed: int) -> None:
    core = CORES[name]
    if advice := toolchain(core.architecture).advice():
        pytest.skip(advice)
    model = random_net(seed)
    write_project(model, tmp_path)
    predicted = predict_instructions(model, core, choose_plan(model).plan)
    assert predicted == pytest.approx(run_in_emulator(tmp_path, core).instructions, rel=0.05)


def test_a_core_without_the_instructions_of_its_costs_is_refused() -> None:
    core = CORES["cortex-m33"]
    bare = replace(core, flags=("-mcpu=cortex-m33+nodsp", *core.flags[1:]))
    with pytest.raises(InputError, match="instructions are predicted for cortex-m33 as"):
        predict_instructions(every_operator_net(), bare, plan_memory(every_operator_net()))
