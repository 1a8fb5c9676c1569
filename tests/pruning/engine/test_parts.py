"""Networks that take feature maps apart: parts are pruned apart, shuffles stay what they are at every width."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mcu.budget import Budget
from mcu.graph.graph import FIXED
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.differentiable import DifferentiablePruning
from pruning.engine import gates, surgery
from pruning.engine.landing import smallest
from pruning.engine.network import Constraints, PrunableNetwork

SHAPE = (3, 8, 8)


class Units(nn.Module):
    """ShuffleNetV2's units: half of the channels goes through a branch, then the halves are shuffled."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.branches = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()) for _ in range(3))
        self.between = between or nn.Identity()
        self.last = nn.Conv2d(16, 6, 1)
        self.scores = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for branch in self.branches:
            left, right = x.chunk(2, 1)
            both = torch.cat([left, branch(right)], 1)
            n, c, h, w = both.shape
            x = both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.scores(self.last(self.between(x)).relu().mean((2, 3)))


class Partial(nn.Module):
    """ReXNet's shortcut to the first channels, unequal parts, a gather behind a depth multiplier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 10, 1)
        self.doubled = nn.Conv2d(10, 20, 3, 1, 1, groups=10)
        self.scores = nn.Linear(15, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        y = self.wide(x)
        z = self.doubled(torch.cat([y[:, :6] + x, y[:, 6:]], 1))
        a, _, c = z.split([12, 5, 3], 1)
        return self.scores(torch.cat([c, a], 1).mean((2, 3)))


NETWORKS = {
    "units": Units,
    "a shuffle that has to be done": lambda: Units(nn.Sequential(nn.ChannelShuffle(4), nn.Conv2d(16, 16, 3, groups=2))),
    "partial": Partial,
}


def drawn(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def test_a_chunk_divides_the_channels_of_its_producer():
    groups = trace(drawn("units"), SHAPE).graph.groups
    assert [(group.name, group.size) for group in groups if group.producers == ("first",)] == [
        ("first", 2), ("first[1]", 2), ("first[2]", 4), ("first[3]", 8),
    ]  # fmt: skip
    assert len({group.name for group in groups}) == len(groups)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_lost_and_regained_channels_comes_back_from_its_widths(name):
    network = PrunableNetwork(drawn(name), Constraints(SHAPE))
    other = PrunableNetwork(copy.deepcopy(network.module), Constraints(SHAPE))
    generator, x = np.random.default_rng(0), torch.randn(4, *SHAPE)
    whole = network.graph.widths
    network.keep([np.sort(generator.permutation(n)[: generator.integers(1, n + 1)]) for n in whole.tolist()])
    before = network.module.eval()(x)
    network.widen(np.maximum(network.graph.widths, whole - 1))
    torch.testing.assert_close(network.module.eval()(x), before, atol=1e-5, rtol=1e-4)
    network.keep([np.sort(generator.permutation(n)[: max(1, n - 1)]) for n in network.graph.widths.tolist()])
    other.load_layout(network.layout())
    surgery.fill(other.tensors(), network.tensors())
    torch.testing.assert_close(other.module.eval()(x), network.module.eval()(x))
    assert [op.order for op in other.graph.ops] == [op.order for op in network.graph.ops]


class EvenAndOdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.scores = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.middle = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.scores(torch.cat([x[:, ::2], self.middle(x[:, 1::2])], 1).mean((2, 3)))


def test_channels_that_widths_cannot_describe_stay():
    graph = trace(EvenAndOdd(), SHAPE).graph
    assert (graph.tensors[graph.ops[0].output].groups == FIXED).all()
    assert [group.name for group in graph.groups] == ["middle"]


@pytest.mark.parametrize("name", NETWORKS)
def test_importance_follows_the_channels_to_another_bank(name):
    traced = trace(drawn(name), SHAPE)
    bank = gates.attach(traced.module, traced.graph)
    bank.importance = torch.rand(len(bank.importance), generator=torch.Generator().manual_seed(0))
    known = gates.importance_of_channels(traced.module)
    gates.detach(traced.module)
    other = gates.attach(traced.module, traced.graph)
    other.take_importance(traced.module, known)
    assert torch.equal(other.importance, bank.importance)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cramped_job_on_parts_meets_its_budget(name, problem, settings):
    parts = replace(problem, network=lambda: nn.Sequential(nn.Conv2d(1, 3, 1), drawn(name)))
    graph = trace(parts.network(), parts.input_shape).graph
    budget = Budget(flash=smallest(ResourceModel(graph)).flash + 300)
    outcome = DifferentiablePruning().run(parts, budget, settings, lambda progress: True)
    assert budget.admits(parts.runtime.measure(outcome.model, outcome.data))
    assert list(outcome.widths) == [group.name for group in graph.groups]
    assert all(1 <= width <= outcome.dense_widths[group] for group, width in outcome.widths.items())
