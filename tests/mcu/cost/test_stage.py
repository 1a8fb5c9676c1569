"""Stages that run strip by strip: every row is made once, and is there when it is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mcu.budget import Budget
from mcu.cost.arena import peak_live
from mcu.cost.chain import Chain, chains_of, row_bytes, spans_of, stages_of
from mcu.cost.firmware_memory import plan_memory
from mcu.cost.stage import Strips, heights_of, overwritten
from mcu.graph.graph import Graph
from mcu.graph.kinds import Kind
from mcu.graph.ports import Port
from mcu.int8.structure import Structure, structure_of, structure_of_graph
from mcu.resource_model import ResourceModel
from mcu.runtime import Runtime
from mcu.terms import RuntimeName
from mcu.tracing.trace import trace
from random_nets import RandomNet, assorted_windows, plain_net, residual_net, separable_net
from search_spaces.choices import NetworkChoice
from search_spaces.networks.registry import build_network

FIRMWARE = Runtime(RuntimeName.FIRMWARE, "stm32f446re")


def check_rows(structure: Structure, strips: Strips) -> None:
    """Run the strips on row numbers instead of rows."""
    ops, heights = structure.ops, [shape[1] if len(shape) == 4 else 1 for shape in structure.shapes]
    rolled = set(strips.tensors())
    memory = {t: np.full(strips.rows(t) if t in rolled else heights[t], -1) for t in range(len(heights))}
    made = dict.fromkeys(memory, 0)
    for op in ops[: strips.stage.first]:
        memory[op.output][:] = np.arange(heights[op.output])
    for port in structure.inputs:
        memory[port.tensor][:] = np.arange(heights[port.tensor])
    for turns in strips.turns:
        for turn in range(turns.times):
            for part, steps, step in zip(turns.parts, turns.read_steps, turns.write_steps, strict=True):
                op = ops[part.op]
                first, buffer = made[op.output], memory[op.output]
                assert part.made > 0
                if part.kept:
                    buffer[: part.kept] = buffer[part.shift : part.shift + part.kept].copy()
                for tensor, at, grow in zip(op.inputs, part.read_at, steps, strict=True):
                    origin, reach = first, part.made
                    if op.kind in (Kind.PAD, Kind.PADV2):
                        origin -= op.padding[0][0]
                    elif max(op.kernel) > 1 or max(op.stride) > 1:
                        origin = first * op.stride[0] - op.padding[0][0]
                        reach = (part.made - 1) * op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1
                    needed = np.arange(max(origin, 0), max(min(origin + reach, heights[tensor]), 0))
                    start = at + grow * turn
                    assert start >= 0
                    assert part.read == len(needed)
                    assert np.array_equal(memory[tensor][start : start + part.read], needed)
                    assert part.top == max(0, min(-origin, part.made if op.kind in (Kind.PAD, Kind.PADV2) else reach))
                write = part.write_at + step * turn
                assert write + part.made <= len(buffer)
                buffer[write : write + part.made] = np.arange(first, first + part.made)
                made[op.output] += part.made
    assert np.array_equal(memory[strips.output], np.arange(heights[strips.output]))


@pytest.mark.parametrize("seed", range(24))
def test_every_row_is_made_once_and_is_there_when_it_is_read(seed: int) -> None:
    structure = structure_of(assorted_windows(seed) if seed else residual_net())
    found = stages_of(structure)
    front = [strips for strips in found.strips if strips.stage.first == found.front]
    assert front
    for strips in front + list(found.strips[len(front) :: 4]):
        check_rows(structure, strips)
    for bound, chain in chains_of(structure):
        assert bound == most_alive(structure, chain)


def most_alive(structure: Structure, chain: Chain | None) -> int:
    """Bytes of tensors in the fullest step; reshapes have no memory of their own."""
    outputs = [port.tensor for port in structure.outputs]
    spans = spans_of(structure.ops, heights_of(structure), outputs, chain, overwritten(structure).items())
    reshaped = {op.output for op in structure.ops if op.kind is Kind.RESHAPE}
    return peak_live(
        [
            (rows * row_bytes(shape), first, last)
            for tensor, (shape, (rows, first, last)) in enumerate(zip(structure.shapes, spans, strict=True))
            if tensor not in reshaped
        ]
    )


def test_chains_take_no_more_memory_than_any_two_stages_and_little_flash() -> None:
    structure = structure_of(plain_net())
    single = min(bound for bound, _ in chains_of(structure, several=False))
    chains = [(bound, chain) for bound, chain in chains_of(structure) if bound < single]
    ones = [strips for strips in stages_of(structure).strips if strips.stage.rows == 1]
    pairs = [Chain((a, b)) for a in ones for b in ones if a.stage.end <= b.stage.first]
    compared = [(most_alive(structure, chain), chain.flash) for chain in [*(Chain((one,)) for one in ones), *pairs]]
    assert min(bound for bound, _ in chains) <= min(bound for bound, _ in compared) < 0.9 * single
    for bound, chain in chains:
        if chain.stages[0].rows == 1:
            assert chain.flash <= min(flash for other, flash in compared if other <= bound)


def test_rows_of_a_stage_by_hand() -> None:
    net = RandomNet(np.random.default_rng(0))
    x = net.conv(net.input(16, 8, 3), 12)
    structure = structure_of(net.model(net.conv(net.depthwise(x, stride=(2, 2)), 4, (1, 1))))
    strips = next(s for s in stages_of(structure).strips if s.stage.end == 3 and s.stage.rows == 1)
    # SAME, stride 2, 16 rows: padding below only, so that a row of the depthwise convolution reads rows 2y to 2y + 2
    assert [strips.rows(tensor) for tensor in strips.tensors()] == [3, 1]
    assert strips.persistent == {structure.ops[0].output}
    turns = strips.turns
    assert sum(turn.times for turn in turns) == 8
    assert [part.made for part in turns[0].parts] == [3, 1, 1]
    steady = max(turns, key=lambda turn: turn.times)
    assert [part.made for part in steady.parts] == [2, 1, 1]
    assert (steady.parts[0].kept, steady.parts[0].shift, steady.parts[0].write_at) == (1, 2, 1)
    assert steady.read_steps[0] == (2,)
    assert steady.write_steps == (0, 0, 1)


@pytest.fixture(scope="module")
def mobilenet() -> Graph:
    shape = (3, 96, 96)
    return trace(build_network(NetworkChoice(name="mobilenet-v2", width=0.35), shape, 2, 0), shape).graph


def test_mobilenet_v2_at_96_pixels_takes_less_than_half_of_its_memory(mobilenet: Graph) -> None:
    structure = structure_of_graph(mobilenet)
    whole, planned = plan_memory(structure, by_strips=False), plan_memory(structure)
    assert whole.strips is None
    assert planned.total < 0.45 * whole.total
    assert planned.strips is not None
    assert planned.strips.flash < (whole.total - planned.total) / 20
    assert str(planned.strips) == "operators 1 to 6, 1 row at a time, then operators 8 to 9, 1 row at a time"


def test_nothing_runs_by_strips_where_its_calls_take_more_flash_than_it_saves() -> None:
    net = RandomNet(np.random.default_rng(0))
    single = structure_of(net.model(net.dense(net.input(8, 8, 2), 4)))
    assert not stages_of(single).strips
    assert plan_memory(single).strips is None
    net = RandomNet(np.random.default_rng(0))
    tiny = structure_of(net.model(net.conv(net.conv(net.input(8, 8, 2), 4), 4)))
    assert stages_of(tiny).strips
    assert plan_memory(tiny).strips is None
    assert plan_memory(structure_of(separable_net())).strips is not None


def test_a_tensor_that_is_read_after_a_stage_is_no_part_of_it() -> None:
    net = RandomNet(np.random.default_rng(0))
    early = net.conv(net.input(24, 24, 3), 8)
    late = net.pool(net.conv(net.conv(early, 8), 8), Kind.MAX_POOL)
    model = net.model(net.concat(net.pool(early, Kind.MAX_POOL), late))
    fronts = [strips.stage for strips in stages_of(structure_of(model)).strips if strips.stage.first == 0]
    assert {stage.end for stage in fronts} == {len(model.ops)}
    shown = replace(model, outputs=(*model.outputs, Port(early)))
    assert all(strips.stage.first > 0 for strips in stages_of(structure_of(shown)).strips)


def test_budgets_for_firmware_see_the_smaller_memory(mobilenet: Graph) -> None:
    firmware, interpreter = ResourceModel(mobilenet, FIRMWARE), ResourceModel(mobilenet)
    dense = firmware.dense_widths
    exact, smooth = firmware.exact(dense).sram, firmware.smooth(dense.astype(float))[1]
    assert exact < 0.5 * interpreter.exact(dense).sram
    assert exact == pytest.approx(smooth, rel=0.1)
    slopes, step = firmware.slopes(dense.astype(float))[1], np.zeros(len(dense))
    step[int(slopes.argmax())] = 1
    rise = firmware.estimate(dense + step)[1] - firmware.estimate(dense)[1]
    assert rise == pytest.approx(slopes.max(), rel=0.2)
    assert firmware.admits(Budget(sram=exact), dense)
    assert not firmware.admits(Budget(sram=exact - 1), dense)


def test_sums_products_and_activations_take_the_place_of_an_operand() -> None:
    net = RandomNet(np.random.default_rng(0))
    first = net.conv(net.input(6, 6, 8), 8)
    swished = net.table(first, Kind.HARD_SWISH)
    kept = net.relu(swished)
    total = net.add(swished, kept)  # both are read again or for the last time: of these the first
    model = net.model(net.conv(total, 2), kept)
    structure = structure_of(model)
    assert overwritten(structure) == {1: first, 3: swished}  # ``kept`` is an output
    plan, size = plan_memory(structure, by_strips=False), 6 * 6 * 8
    assert plan.offsets[first] == plan.offsets[swished] == plan.offsets[total] != plan.offsets[kept]
    assert plan.total == 2 * size + 6 * 6 * 2


def test_budgets_for_firmware_see_what_is_done_in_place() -> None:
    class Swished(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.Conv2d(4, 16, 1), torch.nn.Hardswish(),
                torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(16, 2, 1), torch.nn.Flatten(),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    graph = trace(Swished().eval(), (3, 21, 21)).graph
    model = ResourceModel(graph, FIRMWARE)
    assert model.estimate(graph.widths.astype(float))[1] == 10 * 10 * (4 + 16)  # not 2 x 16
    whole = plan_memory(structure_of_graph(graph), by_strips=False)
    assert whole.total == 10 * 10 * (4 + 16)
