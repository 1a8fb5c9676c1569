"""Half the resolution where memory or operations have to shrink far."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.terms import HALVED
from mcu.tracing.trace import trace
from pruning.differentiable import DifferentiablePruning
from pruning.engine import structure
from pruning.engine.depth import Contender
from pruning.engine.landing import UnreachableBudgetError
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.training import job
from pruning.training.problem import StoppedError
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network
from search_spaces.networks.layers import conv_bn, network
from search_spaces.networks.resnet import ResidualBlock


def built(name: str, shape: tuple[int, int, int]) -> nn.Module:
    return build_network(NetworkChoice(name=name, width=0.5), shape, 10, seed=0).eval()


@pytest.mark.parametrize("size", [28, 30, 32])
def test_half_the_resolution_is_the_network_that_somebody_would_have_written(size):
    """Even maps become odd ones further on, where SAME pads on both sides instead of one."""
    half, quarter = -(-size // 2), -(-size // 4)
    wanted = network(
        [
            conv_bn(1, 8, (size, size), stride=2),
            ResidualBlock(8, 8, (half, half), (1, 1)),
            ResidualBlock(8, 16, (half, half), (2, 2)),
            ResidualBlock(16, 32, (quarter, quarter), (2, 2)),
        ],
        32,
        10,
    ).eval()
    resnet8 = built("resnet8", (1, size, size))
    wanted.load_state_dict(resnet8.state_dict())
    traced = trace(resnet8, (1, size, size))
    edit = structure.halving(traced.module, Constraints((1, size, size)))
    assert edit == ("stem.conv", HALVED)
    halved = structure.edited(traced.module, [edit])
    images = torch.randn(3, 1, size, size)
    with torch.no_grad():
        torch.testing.assert_close(halved(images), wanted(images))
        assert not torch.equal(traced.module(images), halved(images))  # the network it came from is as before
    assert {op.kind for op in trace(halved, (1, size, size)).graph.ops} == {op.kind for op in traced.graph.ops}


@pytest.mark.parametrize(
    ("name", "shape", "path"),
    [
        ("mobilenet-v2", (3, 96, 96), "block1.depthwise.conv"),  # the stem strides already
        ("mobilenet-v2", (1, 28, 28), None),  # its last kernels would meet one pixel each
        ("vgg-small", (1, 28, 28), "stem.conv"),  # its pools meet maps of one pixel then, its kernels do not
        ("vgg-small", (3, 32, 32), None),
        ("ds-cnn", (1, 49, 10), "block1.depthwise.conv"),  # the stem strides already
        ("tiny-cnn1d", (3, 128, 1), "block1.conv"),  # along time alone
        ("causal-cnn", (1, 98, 40), None),  # pads on one side
    ],
)
def test_the_first_convolution_that_can_strides_by_two(name, shape, path):
    module = trace(built(name, shape), shape).module
    edit = structure.halving(module, Constraints(shape))
    assert edit == (path and (path, HALVED))
    if edit:
        model = Constraints(shape).model(structure.edited(module, [edit]))
        dense = Constraints(shape).model(module)
        assert model.exact(model.dense_widths).macs < 0.75 * dense.exact(dense.dense_widths).macs


class Maps(nn.Module):
    """A network for maps: a convolution keeps the size, so its output would shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())


class Flat(nn.Module):
    """A network that has a weight for every place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.first(x).relu().flatten(1))


@pytest.mark.parametrize("make", [Maps, Flat])
def test_networks_whose_end_depends_on_the_resolution_keep_it(make):
    module = trace(make(), (1, 8, 8)).module
    assert structure.halving(module, Constraints((1, 8, 8))) is None


def test_a_frozen_layer_keeps_its_stride(problem):
    module = trace(problem.network(), problem.input_shape).module
    frozen = Constraints(problem.input_shape, frozen=("stem",))
    assert structure.halving(module, Constraints(problem.input_shape)) == ("stem.0", HALVED)
    assert structure.halving(module, frozen) != ("stem.0", HALVED)


def test_the_geometric_middle_decides_whether_a_halving_is_tried():
    dense = Resources(flash=1000, sram=1000, macs=1000)
    assert not structure.is_far(dense, Budget(flash=1), 0)  # weights do not depend on the resolution
    assert not structure.is_far(dense, Budget(sram=501, macs=600), 0)
    assert structure.is_far(dense, Budget(sram=500, macs=600), 0)
    assert not structure.is_far(dense, Budget(macs=126), 1)
    assert structure.is_far(dense, Budget(macs=125), 1)


def far(problem) -> Budget:
    model = problem.constraints.model(problem.network())
    dense = model.exact(model.dense_widths)
    return Budget(flash=dense.flash, macs=dense.macs // 6)


@pytest.fixture
def preferring(monkeypatch):
    """The trials' answers: losses of the halved network and of the whole one."""

    def prefer(*losses: float) -> None:
        left = iter(losses)
        monkeypatch.setattr(job.Job, "trial_loss", lambda self, module: next(left))

    return prefer


@pytest.mark.slow
@pytest.mark.parametrize(("losses", "strides"), [((0.5, 1.0), True), ((1.0, 0.5), False)])
def test_a_job_halves_the_resolution_if_the_trial_is_for_it(problem, settings, preferring, losses, strides):
    preferring(*losses)
    outcome = DifferentiablePruning().run(problem, far(problem), settings, lambda progress: True)
    assert outcome.trained.edits == (((("stem.0", HALVED),),) if strides else ())
    told = [row["edits"] for row in outcome.trajectory if "edits" in row]
    assert told == ([[["stem.0", HALVED]]] if strides else [])
    assert outcome.model.tensors[outcome.model.ops[0].output].shape[1] == (6 if strides else 12)
    assert far(problem).admits(problem.runtime.measure(outcome.model, outcome.data))
    again = outcome.trained.build(problem.network(), problem.constraints)
    assert trace(again, problem.input_shape).graph.widths.tolist() == list(outcome.widths.values())


@pytest.mark.slow
def test_a_job_that_must_not_halve_asks_for_no_trial(problem, settings, preferring):
    preferring()
    settings = replace(settings, hyperparameters=settings.hyperparameters | {"halving": False})
    outcome = DifferentiablePruning().run(problem, far(problem), settings, lambda progress: True)
    assert outcome.trained.edits == ()


@pytest.mark.slow
def test_an_heir_of_a_halved_network_begins_with_it_and_is_not_halved_again(problem, settings, preferring):
    preferring(0.5, 1.0)
    first = DifferentiablePruning().run(problem, far(problem), settings, lambda progress: True)
    heir = replace(problem, ancestor=first.trained)
    budget = replace(far(problem), macs=far(problem).macs * 9 // 10)  # one eighth would be far enough
    second = DifferentiablePruning().run(heir, budget, settings, lambda progress: True)
    assert second.trained.edits == first.trained.edits
    assert second.trajectory[-1]["edits"] == [["stem.0", HALVED]]  # of its lineage
    assert budget.admits(problem.runtime.measure(second.model, second.data))


@pytest.mark.slow
def test_a_job_cut_off_after_halving_ends_as_if_it_never_was(problem, settings, preferring, tmp_path):
    preferring(0.5, 1.0)
    whole = DifferentiablePruning().run(problem, far(problem), settings, lambda progress: True)
    preferring(0.5, 1.0)
    cut = replace(settings, checkpoint=tmp_path)
    with pytest.raises(StoppedError):
        DifferentiablePruning().run(problem, far(problem), cut, lambda progress: progress.epochs_done < 3)
    again = DifferentiablePruning().run(problem, far(problem), cut, lambda progress: True)
    assert again.data == whole.data


@pytest.mark.parametrize(
    ("halved", "whole", "taken"),
    [
        (Contender(9.0, 0.1), None, True),  # its importances keep the whole network from the budget
        (Contender(1.0, 0.1), Contender(0.95, 0.9), True),  # not clearly worse
        (Contender(1.0, 0.1), Contender(0.93, 0.1), False),
        (Contender(0.1, 0.5, most=0.9), Contender(1.0, 0.9), False),  # leaves room in every bound
        (None, Contender(1.0, 0.9), False),
    ],
)
def test_half_the_resolution_is_taken_if_it_is_no_worse_and_uses_a_bound(problem, halved, whole, taken):
    module = trace(problem.network(), problem.input_shape).module
    answers = iter([halved, whole])
    edits = structure.halved_unless_worse(module, problem.constraints, far(problem), lambda network: next(answers))
    assert edits == ([("stem.0", HALVED)] if taken else [])


@pytest.mark.slow
def test_a_budget_that_only_half_the_resolution_meets_is_met_and_refused_without_it(problem, settings):
    reach = structure.Reach(trace(problem.network(), problem.input_shape), problem.constraints, halves=True)
    assert reach.halved.macs < reach.whole.macs
    least = (reach.halved.macs + reach.whole.macs) // 2
    outcome = DifferentiablePruning().run(problem, Budget(macs=least), settings, lambda progress: True)
    assert outcome.trained.edits[0][0] == ("stem.0", HALVED)
    assert Budget(macs=least).admits(problem.runtime.measure(outcome.model, outcome.data))
    whole = replace(settings, hyperparameters=settings.hyperparameters | {"halving": False})
    with pytest.raises(UnreachableBudgetError, match=f"is below {reach.whole.macs:,},"):
        DifferentiablePruning().run(problem, Budget(macs=least), whole, lambda progress: True)
    with pytest.raises(UnreachableBudgetError, match=f"is below {reach.halved.macs:,},"):
        DifferentiablePruning().run(problem, Budget(macs=reach.halved.macs - 1), settings, lambda progress: True)


def test_resources_follow_the_resolution(problem):
    """The layers are the same, so only the sizes of the maps tell the networks apart."""
    prunable = PrunableNetwork(problem.network(), problem.constraints)
    before = prunable.resources
    prunable.replace(structure.edited(prunable.module, [("stem.0", HALVED)]))
    assert prunable.resources.macs < before.macs / 3
    assert prunable.resources.sram < before.sram
