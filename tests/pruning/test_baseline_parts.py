"""Parts of the baselines by themselves: packed weights, factorised layers, pruning rounds, candidates of evolution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from mcu.budget import Budget, Resources
from mcu.tracing.trace import trace
from pruning.baselines.floor import dense_model
from pruning.baselines.low_rank import factorised, ranks_at
from pruning.baselines.magnitude import keep_zeros, weights_of, zero_smallest
from pruning.baselines.packing import pack, saved_bytes, unpack
from pruning.baselines.peer import Rounds
from pruning.baselines.single_resource import DifferentiableMacsOnly, DifferentiableWithoutSram
from pruning.baselines.uniform import uniform_widths
from pruning.methods import method
from pruning.training.job import Job


@given(
    arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 40)), elements=st.sampled_from([0, 0, 0, -5, 1, 127]))
)
def test_packed_weights_come_back_and_take_the_bytes_that_are_charged(weights):
    data = pack(weights)
    assert np.array_equal(unpack(data, weights.shape), weights)
    charged = weights.size // 4 * 4 - saved_bytes(weights.size, int(np.count_nonzero(weights)))
    assert charged == min(len(data), weights.size // 4 * 4)


def test_zeroed_weights_stay_zero_while_the_others_train():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(8, 3))
    zero_smallest(module, 0.6)
    zeros = [weight.detach() == 0 for weight in weights_of(module)]
    assert sum(int(mask.sum()) for mask in zeros) == round(0.6 * sum(mask.numel() for mask in zeros))
    optimizer = torch.optim.SGD(module.parameters(), 0.1, 0.9, weight_decay=0.01, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randn(4, 2, 3, 3)).square().sum().backward()
        keep_zeros(module)
        optimizer.step()
    assert all(bool(((w == 0) == mask).all()) for w, mask in zip(weights_of(module), zeros, strict=True))


def test_at_full_rank_a_factorised_convolution_computes_the_same():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    module = trace(plain, (6, 9, 9)).module
    images = torch.randn(2, 6, 9, 9)
    whole = factorised(module, {"0": 8, "2": 4})
    torch.testing.assert_close(whole(images), module(images), atol=1e-4, rtol=1e-4)
    thin = factorised(module, {"0": 2})
    assert thin.get_submodule("0.0").out_channels == 2
    assert (thin(images) - module(images)).abs().mean() > 0.01


def test_only_convolutions_that_shrink_get_a_rank(problem):
    module = trace(problem.network(), problem.input_shape).module
    half, least = ranks_at(module, 0.5), ranks_at(module, 0.0)
    assert set(half) <= set(least)
    assert set(least.values()) == {1}
    assert not any("depthwise" in path or "head" in path for path in least)


def test_rounds_are_spread_after_pretraining_and_end_at_the_budget():
    rounds = Rounds.of({"pretrain": 0.4, "rounds": 3}, 100)
    assert rounds.steps == (40, 55, 70)
    assert rounds.shares[-1] == 1
    dense, budget = Resources(80_000, 40_000, 9), Budget(flash=10_000, sram=50_000)
    targets = [rounds.target(share, dense, budget) for share in rounds.shares]
    assert [target.flash for target in targets] == [40_000, 20_000, 10_000]
    assert {target.sram for target in targets} == {50_000}
    assert targets[-1] is budget


def test_blind_variants_price_what_they_see_and_derive_targets_for_the_rest(problem):
    model, budget = dense_model(problem), Budget(sram=7_000)
    fitting = model.exact(uniform_widths(model, budget))
    assert DifferentiableWithoutSram().priced(model, budget) == Budget(flash=fitting.flash, macs=fitting.macs)
    assert DifferentiableMacsOnly().priced(model, Budget(sram=7_000, macs=90_000)) == Budget(macs=90_000)


@pytest.mark.parametrize("flash", [4_000, 5_000])
def test_the_uniform_factor_is_the_largest_that_fits(problem, flash):
    model, budget = dense_model(problem), Budget(flash=flash)
    widths = uniform_widths(model, budget)
    assert budget.admits(model.exact(widths))
    assert not budget.admits(model.exact(np.minimum(widths + 2, model.dense_widths)))


@pytest.mark.parametrize("name", ["l1", "fpgm", "random"])
def test_at_its_end_the_ratio_leaves_the_least_channels_in_every_layer(name, problem, settings):
    subject = method(name)
    job = Job(problem, Budget(), settings, lambda report: True, name)
    sizes = [
        [
            layer.out_channels
            for layer in subject._pruned(job, ratio, "global", {}).modules()
            if isinstance(layer, nn.Conv2d)
        ]
        for ratio in (0.0, 1 - 2 * 2 / 36)
    ]
    assert sizes == [[12, 12, 12, 24], [2, 2, 2, 2]]  # two where there are depthwise layers
