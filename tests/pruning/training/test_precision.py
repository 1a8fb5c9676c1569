import copy

import numpy as np
import pytest
import torch
from torch import nn

from mcu.budget import Budget
from mcu.graph.layers import Convolution
from pruning.differentiable import DifferentiablePruning
from pruning.training.precision import has_fast_bf16
from pruning.training.problem import Problem, Settings

FAST = Convolution(8, 8, 3, padding=1, groups=8)
SLOW = {
    "stride 2": (Convolution(8, 8, 3, 2, 1, groups=8), (2, 8, 6, 6)),
    "kernel 5": (Convolution(8, 8, 5, 1, 2, groups=8), (2, 8, 6, 6)),
    "small map": (Convolution(8, 8, 3, 1, 1, groups=8), (2, 8, 2, 6)),
}


def under_autocast(layer, shape):
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.ones(shape))
        assert torch.is_autocast_enabled("cpu")
    return out


@pytest.mark.parametrize("name", SLOW)
def test_slow_depthwise_convolutions_compute_in_float32_under_autocast(name):
    layer, shape = SLOW[name]
    assert torch.equal(under_autocast(layer, shape), layer(torch.ones(shape)))
    assert torch.equal(under_autocast(copy.deepcopy(layer), shape), layer(torch.ones(shape)))
    plain = nn.Conv2d(8, 8, layer.kernel_size, layer.stride, layer.padding, groups=8)
    assert under_autocast(plain, shape).dtype is torch.bfloat16


@pytest.mark.parametrize("layer", [FAST, Convolution(8, 8, 3, 2, 1)])
def test_all_other_convolutions_stay_in_bfloat16(layer):
    assert under_autocast(layer, (2, 8, 6, 6)).dtype is torch.bfloat16


def test_autocast_is_as_before_after_an_error():
    layer, _ = SLOW["stride 2"]
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            layer(torch.ones(2, 3, 6, 6))
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def eegnet() -> nn.Module:
    """A 1 x 16 depthwise convolution without batch normalisation, whose bfloat16 gradients never end on a CPU."""
    return nn.Sequential(
        nn.Conv2d(1, 16, (8, 1)), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, (1, 16), padding="same", groups=16, bias=False),
        nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


@pytest.mark.skipif(not has_fast_bf16(torch.device("cpu")), reason="this CPU trains in float32")
def test_a_gated_convolution_without_batch_norm_leaves_bfloat16_too():
    x = np.random.default_rng(0).normal(size=(96, 1, 8, 64)).astype(np.float32)
    y = np.arange(96) % 2
    problem = Problem(eegnet, (1, 8, 64), 2, x[:64], y[:64], x[64:], y[64:])
    outcome = DifferentiablePruning().run(
        problem, Budget(flash=2600), Settings(epochs=3, batch_size=16), lambda progress: True
    )
    assert sum(outcome.widths.values()) < sum(outcome.dense_widths.values())
