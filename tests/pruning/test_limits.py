"""Layers that are frozen, channels that come in units, and how long pruning takes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.graph.graph import bundle
from mcu.graph.kinds import Kind
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.differentiable import DifferentiablePruning, Phases, compression
from pruning.engine import surgery
from pruning.engine.landing import UnreachableBudgetError
from pruning.methods import method
from pruning.training.problem import Infeasible

BUDGET = Budget(flash=5_600, macs=200_000)


def test_a_frozen_layer_keeps_all_its_channels(problem, settings):
    frozen = replace(problem, frozen=("down.1",))
    outcome = DifferentiablePruning().run(frozen, BUDGET, settings, lambda progress: True)
    assert list(outcome.widths) == ["stem.0"]
    weights = [op.weights for op in outcome.model.ops if op.weights is not None and op.weights.shape[1:3] == (3, 3)]
    assert weights[-1].shape[0] == 24


@pytest.mark.parametrize("round_to", [2, 4])
def test_widths_come_in_units(problem, settings, round_to):
    outcome = DifferentiablePruning().run(replace(problem, round_to=round_to), BUDGET, settings, lambda progress: True)
    assert all(width % round_to == 0 for width in outcome.widths.values())
    assert sum(outcome.widths.values()) < sum(outcome.dense_widths.values()) == 36
    assert BUDGET.admits(problem.runtime.measure(outcome.model, outcome.data))


def test_bundles_cost_what_their_channels_cost_and_shrink_whole(problem):
    traced = trace(problem.network(), problem.input_shape)
    single = ResourceModel(traced.graph)
    bundled = bundle(traced.graph, 4)
    model = ResourceModel(bundled)
    assert bundled.widths.tolist() == [3, 6]
    assert model.exact(np.array([2, 5])) == single.exact(np.array([8, 20]))
    smaller = surgery.shrink(traced.module, bundled, [np.array([0, 2]), np.array([1])])
    assert smaller.channels.tolist() == [8, 4]
    assert traced.module(torch.zeros(2, 1, 12, 12)).shape == (2, 4)


def test_a_group_that_does_not_divide_stays_as_it_is(problem):
    graph = bundle(trace(problem.network(), problem.input_shape).graph, 8)
    assert graph.widths.tolist() == [12, 3]
    assert graph.channels.tolist() == [12, 24]


def test_near_budgets_are_pruned_faster_and_all_land_at_the_same_step():
    parts = [Phases.of({}, 1000, factor) for factor in (1.2, 2, 4, 8, 80)]
    lengths = [phases.pruning - phases.warm_up for phases in parts]
    assert lengths == sorted(lengths)
    assert lengths[0] < 100
    assert lengths[-2] == lengths[-1] == 350
    assert all(abs(phases.pruning - 450) <= 1 for phases in parts)  # both parts are rounded to steps
    assert Phases.of({"pruning": 0.5}, 1000, 1.2).pruning == 600


@pytest.mark.parametrize("given", [{"warmup": 0.9}, {"pruning": 0.95}, {"warmup": 0.5, "pruning": 0.5}, {}])
@pytest.mark.parametrize("steps", [2, 3, 25, 1000])
def test_phases_end_with_the_job(given, steps):
    phases = Phases.of(given, steps, 4.0)
    assert 0 <= phases.unwatched < phases.warm_up < phases.pruning <= steps


def test_phases_longer_than_the_job_are_refused():
    with pytest.raises(InputError, match=r"warmup = 0\.6 and pruning = 0\.5: allowed are 1 together"):
        Phases.of({"warmup": 0.6, "pruning": 0.5}, 1000, 4.0)
    with pytest.raises(InputError, match="1 steps of training: too few"):
        Phases.of({}, 1, 4.0)


def test_compression_is_that_of_the_tightest_bound():
    dense = Resources(flash=1000, sram=100, macs=10)
    assert compression(dense, Budget(flash=500, sram=10)) == 10
    assert compression(dense, Budget(flash=5000)) == 1


def test_peers_keep_frozen_layers_and_units_too(problem, settings):
    limited = replace(problem, frozen=("down.1",), round_to=4)
    outcome = method("l1").run(limited, Budget(flash=5_000), settings, lambda progress: True)
    widths = [op.weights.shape[0] for op in outcome.model.ops if op.kind is Kind.CONV]
    assert widths[-2] == 24
    assert outcome.widths["stem.0"] in (4, 8)


@pytest.mark.parametrize("name", ["differentiable", "uniform", "evolution", "l1", "low-rank"])
def test_every_method_knows_what_limits_make_unreachable_before_it_trains(name, problem, settings):
    limited = replace(problem, frozen=("stem", "down", "pointwise"), round_to=4)
    dense = limited.constraints.model(limited.network()).exact(np.array([], dtype=np.int64))
    seen: list[float] = []
    budget, report = Budget(sram=dense.sram - 16), lambda progress: bool(seen.append(progress.step)) or True
    if name == "differentiable":
        with pytest.raises(UnreachableBudgetError, match="smallest it can be"):
            method(name).run(limited, budget, settings, report)
    else:
        assert isinstance(method(name).run(limited, budget, settings, report), Infeasible)
    assert seen == []
