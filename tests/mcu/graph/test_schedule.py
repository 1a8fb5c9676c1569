from itertools import permutations

import pytest
import torch
from torch import nn

from mcu.graph.schedule import least_memory_order, peak_bytes, schedule
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
    written = {graph.input}
    for index in order:
        op = graph.ops[index]
        if not set(op.inputs) <= written:
            return False
        written.add(op.output)
    return True


def test_the_search_equals_brute_force():
    graph = trace(TwoBranches(), (2, 8, 8)).graph
    everything = range(len(graph.ops))
    best = min(peak_bytes(graph, order) for order in permutations(everything) if valid(graph, order))
    order = least_memory_order(graph)
    assert valid(graph, order)
    assert peak_bytes(graph, order) == best


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


def test_the_beam_also_finds_valid_orders(monkeypatch):
    monkeypatch.setattr("mcu.graph.schedule.MOST_SETS", 1)
    graph = trace(TwoBranches(), (2, 8, 8)).graph
    assert valid(graph, least_memory_order(graph))
