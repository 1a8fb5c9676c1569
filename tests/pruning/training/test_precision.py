import copy

import pytest
import torch
from torch import nn

from pruning.training.precision import spare_slow_layers

FAST = nn.Conv2d(8, 8, 3, padding=1, groups=8)
SLOW = {
    "stride 2": (nn.Conv2d(8, 8, 3, 2, 1, groups=8), (2, 8, 6, 6)),
    "kernel 5": (nn.Conv2d(8, 8, 5, 1, 2, groups=8), (2, 8, 6, 6)),
    "small map": (nn.Conv2d(8, 8, 3, 1, 1, groups=8), (2, 8, 2, 6)),
}


def under_autocast(layer, shape):
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.ones(shape))
        assert torch.is_autocast_enabled("cpu")
    return out


@pytest.mark.parametrize("name", SLOW)
def test_slow_depthwise_convolutions_compute_in_float32_under_autocast(name):
    layer, shape = copy.deepcopy(SLOW[name])
    assert under_autocast(layer, shape).dtype is torch.bfloat16
    spare_slow_layers(layer)
    spare_slow_layers(layer)
    assert torch.equal(under_autocast(layer, shape), layer(torch.ones(shape)))
    assert torch.equal(under_autocast(copy.deepcopy(layer), shape), layer(torch.ones(shape)))
    assert len(layer._forward_hooks) == 1


@pytest.mark.parametrize("layer", [FAST, nn.Conv2d(8, 8, 3, 2, 1)])
def test_all_other_convolutions_stay_in_bfloat16(layer):
    layer = copy.deepcopy(layer)
    spare_slow_layers(layer)
    assert under_autocast(layer, (2, 8, 6, 6)).dtype is torch.bfloat16


def test_autocast_is_as_before_after_an_error():
    layer, _ = copy.deepcopy(SLOW["stride 2"])
    spare_slow_layers(layer)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            layer(torch.ones(2, 3, 6, 6))
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
