"""The choice of what runs strip by strip: within bounds, and worth its time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcu.budget import Budget
from mcu.cost.firmware_memory import plan_memory, plan_with, plans_of
from mcu.cost.stage import Stage
from mcu.errors import InputError
from mcu.firmware import CORES, choose_plan, predict_firmware, predict_instructions
from mcu.firmware.planning import EQUAL, TIME_WEIGHT
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.structure import structure_of
from mcu.tracing.trace import trace
from random_nets import causal_net, plain_net
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network


@pytest.fixture(scope="module")
def resnet8() -> Int8Model:
    torch.manual_seed(0)
    shape = (3, 32, 32)
    traced = trace(build_network(NetworkChoice(name="resnet8"), shape, 10, 0).eval(), shape)
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, torch.as_tensor(np.random.default_rng(0).normal(size=(2, *shape)), dtype=torch.float32))
    return quantise(network)


def test_without_a_bound_time_is_given_for_much_memory_only(resnet8: Int8Model) -> None:
    one = Stage(0, 8, 1)
    vector, plain = choose_plan(resnet8, "cortex-m55"), choose_plan(resnet8, "cortex-m4f")
    # one row saves 28 KB of 50 for 6 % of the time of whole maps on a Cortex-M55, for 1 % on an M4
    assert (vector.plan.strips.stages, plain.plan.strips.stages) == ((one,), (one,))
    assert vector.told().startswith("operators 1 to 8, 1 row at a time, ")
    assert f"1 % of time for {TIME_WEIGHT} % of memory" in vector.told()
    for core in (None, "xtensa-lx7"):  # unknown here: as where strips cost most
        assert choose_plan(resnet8, core).plan == vector.plan
    for choice in (vector, plain):
        own, whole = choice.chosen, choice.whole
        left = (own.size - whole.flash) / whole.ram  # additional flash counts as RAM
        assert own.instructions < whole.instructions * left ** (-1 / TIME_WEIGHT)


def test_within_a_bound_of_ram_the_fastest_plan_is_chosen(resnet8: Int8Model) -> None:
    core, structure = CORES["cortex-m55"], structure_of(resnet8)
    costs = [
        (taken.ram, taken.flash, predict_instructions(resnet8, core, plan))
        for plan in plans_of(structure)
        for taken in [predict_firmware(structure, core.name, plan)]
    ]
    slowest = 0
    for bound, flash, _ in sorted(costs, reverse=True):
        chosen = choose_plan(resnet8, core.name, Budget(sram=bound, flash=flash)).chosen
        within = [cost for cost in costs if cost[0] <= bound and cost[1] <= flash]
        assert (chosen.ram, chosen.flash, chosen.instructions) in within
        assert chosen.instructions <= (1 + EQUAL) * min(cost[2] for cost in within)
        slowest = max(slowest, chosen.instructions)
    assert slowest > 1.05 * costs[0][2]
    roomy = choose_plan(resnet8, core.name, Budget(sram="1MB")).chosen
    assert roomy.instructions < (1 + EQUAL) * costs[0][2]
    assert roomy.ram < costs[0][0]  # 16 KB less for half a percent: as fast
    close = choose_plan(resnet8, core.name, Budget(sram=1000))
    assert close.chosen.ram == min(cost[0] for cost in costs)
    assert "none is within 1,000 B SRAM" in close.told()
    flash = min(cost[1] for cost in costs)
    assert choose_plan(resnet8, core.name, Budget(flash=flash)).plan.strips is None


def test_a_program_without_a_choice_has_one_plan() -> None:
    model = causal_net(width=8)
    stream = choose_plan(model, hop=1)
    assert stream.plan.total == plan_memory(model, hop=1).total
    assert stream.plan.stream is not None
    assert stream.told().endswith("a step of a stream")


def test_a_plan_is_found_again_by_its_stages() -> None:
    structure = structure_of(plain_net())
    found = plans_of(structure)
    assert {0, 1, 2} <= {len(plan.strips.links) if plan.strips else 0 for plan in found}
    for plan in found:
        assert plan_with(structure, plan.strips.stages if plan.strips else ()) == plan
    for stages in ([Stage(0, 99, 1)], [Stage(0, 3, 1), Stage(2, 4, 1)], [Stage(2, 4, 1), Stage(0, 2, 1)]):
        with pytest.raises(InputError, match=f"{stages[-1]} cannot run"):
            plan_with(structure, stages)
