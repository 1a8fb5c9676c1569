"""Residual branches that go where a budget is too small for what they cost whatever their width."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mcu.budget import Budget
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.differentiable import DifferentiablePruning
from pruning.engine import depth
from pruning.engine.landing import UnreachableBudgetError, smallest
from pruning.training import job
from pruning.training.evaluation import normalise, training_loss
from pruning.training.problem import StoppedError
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

pytestmark = pytest.mark.slow

SHAPE = (1, 28, 28)
CHANNELS = 40


class Deep(nn.Module):
    """Six residual blocks, each sum with an identity or a convolution beside its branch."""

    def __init__(self, blocks: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
                nn.BatchNorm2d(CHANNELS),
                nn.ReLU(),
                nn.Conv2d(CHANNELS, CHANNELS, 1),
            )
            for _ in range(blocks)
        )
        self.shortcut = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.head = nn.Linear(CHANNELS, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for index, body in enumerate(self.bodies):
            x = body(x) + (self.shortcut(x) if index == 1 else x)
        return self.head(x.relu().mean((2, 3)))


@pytest.fixture
def deep(problem, monkeypatch):
    monkeypatch.setattr(job, "TRIAL_STEPS", 8)  # trials take their time

    def network() -> nn.Module:
        torch.manual_seed(0)
        return Deep()

    return replace(problem, network=network)


def never_asked(module):
    raise AssertionError("no branch had to be looked at")


def cramped(problem):
    """A budget that the whole network could meet only with next to no channels."""
    model = ResourceModel(trace(problem.network(), problem.input_shape).graph, problem.runtime)
    return Budget(flash=smallest(model).flash + 300)


@pytest.mark.parametrize(
    ("name", "sums", "layers"), [("mobilenet-v2", 10, 3), ("resnet8", 3, 2), ("resnet20", 9, 2), ("ds-cnn", 0, 0)]
)
def test_branches_are_the_longer_addends_of_sums(name, sums, layers):
    traced = trace(build_network(NetworkChoice(name=name), SHAPE, 10, seed=0), SHAPE)
    found = depth.branches(traced)
    assert [len(branch.layers) for branch in found] == [layers] * sums


def test_operators_that_no_node_stands_for_are_no_branches():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert depth.branches(trace(network, SHAPE)) == []  # symmetric padding at stride 2 is an operator of its own


def test_a_branch_with_a_frozen_layer_stays(deep):
    traced = trace(deep.network(), deep.input_shape)
    assert len(depth.branches(traced)) == 6
    left = depth.branches(traced, ["bodies.2.0"])
    assert len(left) == 5
    assert not any("bodies.2.0" in branch.layers for branch in left)


def test_without_a_branch_the_sum_is_its_other_addend(deep):
    network = deep.network().eval()
    traced = trace(network, deep.input_shape)
    removals = [branch.removal for branch in depth.branches(traced)]
    shorter = depth.without(traced.module, removals)
    x = torch.randn(4, *deep.input_shape)
    with torch.no_grad():
        wanted = network.head(network.shortcut(network.stem(x)).relu().mean((2, 3)))
    torch.testing.assert_close(shorter(x), wanted)
    assert not [name for name, _ in shorter.named_parameters() if name.startswith("bodies")]
    assert len(list(traced.module.named_parameters())) > len(list(shorter.named_parameters()))


def test_an_addend_that_others_read_stays():
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.first(x), self.second(x)
            return self.head(torch.cat([a + b, torch.cat([a, b], 1)[:, :4]], 1).mean((2, 3)))

    class Plain(Read):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.first(x), self.second(x)
            return self.head(torch.cat([a + b, b], 1).mean((2, 3)))

    found = depth.branches(trace(Plain(), (1, 8, 8)))
    assert [branch.layers for branch in found] == [frozenset({"first"})]


def test_the_branches_whose_absence_the_loss_feels_least_go_first(deep):
    feels = [0.5, 0.3, 0.9, 0.1, 0.7, 0.2]

    def loss(module):
        present = {name.split(".")[1] for name, _ in module.named_parameters() if name.startswith("bodies")}
        (absent,) = set("012345") - present
        return feels[int(absent)]

    module = trace(deep.network(), deep.input_shape).module
    removals = depth.expendable(module, deep.constraints, cramped(deep), loss)
    order = [int(goes.split("_")[1]) for _, goes in removals]
    assert len(order) > 2
    assert order == [3, 5, 1, 0, 4, 2][: len(order)]


def test_the_loss_is_that_of_training_data_with_statistics_at_rest(deep):
    traced = trace(deep.network(), deep.input_shape)
    statistics = traced.module.stem.get_submodule("1").running_mean.clone()
    images = normalise(torch.as_tensor(deep.x_train), deep)
    losses = torch.nn.functional.cross_entropy(
        traced.module.eval()(images), torch.as_tensor(deep.y_train), reduction="none"
    ).detach()
    assert losses.min() <= training_loss(traced.module.train(), deep) <= losses.max()
    assert torch.equal(traced.module.stem.get_submodule("1").running_mean, statistics)


def test_a_branch_stays_if_widths_would_then_have_little_left_to_give(deep):
    whole = trace(deep.network(), deep.input_shape)
    dense = ResourceModel(whole.graph).exact(whole.graph.widths)
    assert depth.expendable(whole.module, deep.constraints, Budget(flash=dense.flash // 7), never_asked) == []


def test_a_bound_that_is_far_takes_no_branch_for_one_that_is_not(deep):
    """Few multiplications are a matter of widths: the SRAM that is fixed does not make them one of depth."""
    whole = trace(deep.network(), deep.input_shape)
    model = ResourceModel(whole.graph)
    dense, least = model.exact(whole.graph.widths), smallest(model)
    near = Budget(sram=max(2 * least.sram, dense.sram // 4))
    assert depth.is_cramped(model, near)
    far = replace(near, macs=dense.macs // 100)
    assert depth.expendable(whole.module, deep.constraints, near, never_asked) == []
    assert depth.expendable(whole.module, deep.constraints, far, lambda module: 0.0) == []


def test_a_roomy_budget_leaves_every_branch(deep):
    model = ResourceModel(trace(deep.network(), deep.input_shape).graph)
    roomy = Budget(flash=11 * smallest(model).flash)
    assert not depth.is_cramped(model, roomy)
    assert depth.is_cramped(model, cramped(deep))
    assert not depth.is_cramped(model, Budget())


def test_a_cramped_job_takes_branches_out_and_meets_the_budget(deep, settings):
    outcome = DifferentiablePruning().run(deep, cramped(deep), settings, lambda progress: True)
    gone = [name for name, width in outcome.widths.items() if width == 0]
    assert gone
    assert outcome.widths.keys() == outcome.dense_widths.keys()
    assert set(outcome.dense_widths.values()) == {CHANNELS}
    assert {len(row["widths"]) for row in outcome.trajectory} == {len(outcome.widths)}
    assert list(outcome.widths.values()) == outcome.trajectory[-1]["widths"]
    assert cramped(deep).admits(deep.runtime.measure(outcome.model, outcome.data))
    assert len(outcome.model.ops) < len(trace(deep.network(), deep.input_shape).graph.ops)


@pytest.mark.parametrize(("epochs", "warmup"), [((3,), 0.1), ((1, 2, 5), 0.1), ((1, 2), 12 / 68)])
def test_a_cramped_job_that_was_cut_off_ends_as_if_it_never_was(deep, settings, tmp_path, monkeypatch, epochs, warmup):
    if epochs != (3,):
        monkeypatch.setattr(depth, "CONTESTED", 1.0)  # trials take their time: once is enough
    settings = replace(settings, hyperparameters=settings.hyperparameters | {"warmup": warmup})  # 12 steps: one epoch
    whole = DifferentiablePruning().run(deep, cramped(deep), settings, lambda progress: True)
    for end in epochs:
        cut = replace(settings, checkpoint=tmp_path / str(end))
        with pytest.raises(StoppedError):
            DifferentiablePruning().run(deep, cramped(deep), cut, lambda progress, end=end: progress.epochs_done < end)
        again = DifferentiablePruning().run(deep, cramped(deep), cut, lambda progress: True)
        assert again.data == whole.data
        assert again.widths == whole.widths
        assert again.trajectory == whole.trajectory


def test_a_budget_is_refused_only_if_it_cannot_be_met_without_branches(deep, settings, monkeypatch):
    monkeypatch.setattr(depth, "CONTESTED", 1.0)
    floor = smallest(ResourceModel(depth.shallowest(deep.network(), deep.constraints), deep.runtime))
    whole = smallest(ResourceModel(trace(deep.network(), deep.input_shape).graph))
    assert floor.flash < whole.flash
    reached = DifferentiablePruning().run(deep, Budget(flash=floor.flash + 40), settings, lambda progress: True)
    assert len(reached.data) <= floor.flash + 40
    with pytest.raises(UnreachableBudgetError, match="smallest it can be"):
        DifferentiablePruning().run(deep, Budget(flash=floor.flash - 1), settings, lambda progress: True)


def test_branches_go_by_trial_where_half_of_a_bound_is_fixed(deep, monkeypatch):
    traced = trace(deep.network(), deep.input_shape)
    two = [branch for branch in depth.branches(traced) if branch.removal[1][7] in "35"]
    monkeypatch.setattr(depth, "branches", lambda traced, frozen: two)
    model = ResourceModel(traced.graph)
    budget = Budget(flash=int(1.5 * smallest(model).flash))
    assert depth.is_contested(model, budget)

    def gone(losses, uses):
        def contest(shorter):
            present = {name.split(".")[1] for name, _ in shorter.named_parameters() if name.startswith("bodies")}
            absent = "".join(sorted({"3", "5"} - present))
            return depth.Contender(losses.get(absent, 9.0), uses.get(absent, 0.7))

        removals = depth.contested(traced.module, deep.constraints, budget, contest)
        return "".join(goes.split("_")[1] for _, goes in removals)

    assert gone({"": 1.0, "3": 0.9, "5": 0.8, "35": 0.95}, {}) == "5"
    assert gone({"": 1.0, "3": 0.9, "5": 0.8, "35": 0.7}, {}) == "53"
    assert gone({"": 1.0, "3": 0.99, "5": 0.99}, {}) == ""  # cannot be told apart
    assert gone({"": 1.0, "3": 0.99, "5": 1.0}, {"3": 0.9, "5": 0.8}) == "3"  # but uses more of the bounds
    assert gone({"": 1.0, "3": 1.2, "5": 1.1}, {"3": 1.0, "5": 1.0}) == ""


@pytest.mark.parametrize(("losses", "gone"), [((9.0, 1.0, 9.0), 3), ((9.0, 9.0, 1.0), 6), ((9.0, 9.0, 9.0), 0)])
def test_of_many_branches_half_and_all_are_tried_though_one_less_is_worse(deep, losses, gone):
    traced = trace(deep.network(), deep.input_shape)
    budget = Budget(flash=int(1.5 * smallest(ResourceModel(traced.graph)).flash))
    loss = dict(zip((1, 3, 6), losses, strict=True))

    def contest(shorter):
        return depth.Contender(loss.get(6 - len(depth.branches(trace(shorter, deep.input_shape))), 2.0), 0.7)

    assert len(depth.contested(traced.module, deep.constraints, budget, contest)) == gone
