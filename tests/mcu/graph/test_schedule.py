from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from mcu.cost.deployment import write_deployment
from mcu.graph.graph import Graph, Op, Tensor
from mcu.graph.kinds import Kind
from mcu.graph.ports import Port
from mcu.graph.schedule import HEURISTIC, peak_bytes, schedule
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.measure import measure_model
from mcu.resource_model import ResourceModel
from mcu.tflite import tflm
from mcu.tflite.reader import read_tflite
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network


class TwoBranches(nn.Module):
    """Written in a wasteful order: both wide tensors first, then both narrow ones."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.ModuleList(nn.Conv2d(2, 16, 3, padding=1) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Conv2d(16, 2, 1) for _ in range(2))
        self.scores = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.wide[0](x), self.wide[1](x)
        both = torch.cat([self.narrow[0](first), self.narrow[1](second)], 1)
        return self.scores(both.mean((2, 3)))


def valid(graph, order):
    written = {port.tensor for port in graph.inputs}
    for index in order:
        op = graph.ops[index]
        if not set(op.inputs) <= written:
            return False
        written.add(op.output)
    return True


def test_tracing_runs_one_branch_to_its_end_before_the_other():
    graph = trace(TwoBranches(), (2, 8, 8)).graph
    written = [op.name for op in graph.ops][:4]
    assert written in (["wide.0", "narrow.0", "wide.1", "narrow.1"], ["wide.1", "narrow.1", "wide.0", "narrow.0"])
    # input 2 + wide 16 + finished narrow 2 maps of 64 bytes
    assert peak_bytes(graph, range(len(graph.ops))) == 64 * (2 + 16 + 2)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet-v2", "plain-cnn"])
def test_an_order_that_cannot_be_improved_stays(name):
    graph = trace(build_network(NetworkChoice(name=name), (1, 28, 28), 10, 0), (1, 28, 28)).graph
    assert schedule(graph) is graph


def wired(inputs, sizes, outputs):
    """A graph of sums: operator k reads the tensors ``inputs[k]`` and writes tensor k + 2 of ``sizes[k]`` bytes."""
    none = np.zeros(0, dtype=np.int64)
    tensors = tuple(Tensor(str(k), size, 1, np.zeros(1, np.int64), none) for k, size in enumerate([3, 5, *sizes]))
    ops = tuple(Op(Kind.ADD, str(k), tuple(read), k + 2) for k, read in enumerate(inputs))
    return Graph(tensors, ops, (), (Port(0), Port(1)), tuple(map(Port, outputs)))


@pytest.mark.parametrize("seed", range(12))
def test_the_search_equals_brute_force_on_any_wiring(seed):
    rng = np.random.default_rng(seed)
    inputs = [rng.choice(k + 2, int(rng.integers(1, 3)), replace=False).tolist() for k in range(6)]
    left = {tensor for tensor in range(8) if not any(tensor in read for read in inputs)}
    inputs.append(sorted(left) or [7])
    outputs = {8, *rng.choice(np.arange(2, 9), seed % 4, replace=False).tolist()}  # some read, some not
    graph = wired(inputs, rng.integers(1, 40, 7).tolist(), outputs)
    best = min(peak_bytes(graph, order) for order in permutations(range(7)) if valid(graph, order))
    found = schedule(graph)
    assert peak_bytes(found, range(7)) == best


def columns(count, depth):
    """Branches of equal length, written layer by layer, whose halves narrow: the order matters and there are many."""
    inputs, sizes, ends = [], [], [0] * count
    for layer in range(depth):
        for column in range(count):
            inputs.append([ends[column]])
            sizes.append(7 + (5 * layer + 3 * column) % 11 if layer < depth - 1 else 2)
            ends[column] = len(sizes) + 1
    return wired([*inputs, ends], [*sizes, 1], [len(sizes) + 2])


def test_many_branches_are_ordered_in_no_time():
    graph = columns(6, 9)  # 10^6 sets of executed operators
    notes = []
    found = schedule(graph, notes.append)
    order = [int(op.name) for op in found.ops]
    assert valid(graph, order)
    assert peak_bytes(found, range(len(order))) < peak_bytes(graph, range(len(order)))
    assert notes == []  # and so it is the least


def test_an_order_of_the_heuristic_is_valid_better_and_said(monkeypatch):
    monkeypatch.setattr("mcu.graph.schedule.MOST_SETS", 0)
    graph, notes = columns(4, 5), []
    found = schedule(graph, notes.append)
    assert notes == [HEURISTIC]
    assert valid(graph, [int(op.name) for op in found.ops])
    assert peak_bytes(found, range(len(found.ops))) < peak_bytes(graph, range(len(graph.ops)))


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
def test_memory_is_that_of_the_order_in_the_file_though_a_heuristic_found_it(monkeypatch):
    monkeypatch.setattr("mcu.graph.schedule.MOST_SETS", 0)
    traced = trace(TwoBranches(), (2, 8, 8))
    assert HEURISTIC in traced.notes
    assert [op.name for op in traced.graph.ops][:4] != ["wide.0", "wide.1", "narrow.0", "narrow.1"]
    folded = FoldedNet(traced.graph, traced.module.eval())
    calibrate(folded, torch.randn(4, 2, 8, 8))
    data = write_deployment(quantise(folded))
    assert [op.kernel for op in read_tflite(data).ops][:4] == [(3, 3), (1, 1), (3, 3), (1, 1)]
    assert measure_model(data).sram == ResourceModel(traced.graph).exact(traced.graph.widths).sram
