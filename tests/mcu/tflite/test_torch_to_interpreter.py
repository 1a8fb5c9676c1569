from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.int8.structure import structure_of_graph
from mcu.measure import measure_model, model_input
from mcu.tflite import tflm
from mcu.tracing.trace import trace

pytestmark = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")

blocks = st.lists(
    st.tuples(
        st.sampled_from(["conv", "depthwise", "residual", "concat", "max", "avg", "relu6", "norm"]),
        st.integers(1, 12),
        st.sampled_from([(1, 1), (3, 3), (3, 1), (5, 3)]),
        st.integers(1, 2),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=6,
)


class Drawn(nn.Module):
    """Blocks as drawn, one after the other, then a classifier."""

    def __init__(self, channels: int, size: tuple[int, int], plan: list, flat: bool) -> None:
        super().__init__()
        self.kinds, self.layers = [], nn.ModuleList()
        height, width = size
        for kind, outer, kernel, stride, dilation in plan:
            padding = tuple((k // 2) * dilation for k in kernel)
            window = {"padding": padding, "dilation": dilation}
            layers: list[nn.Module]
            if kind == "conv":
                layers, outer = [nn.Conv2d(channels, outer, kernel, stride, **window), nn.BatchNorm2d(outer)], outer
            elif kind == "depthwise":
                outer = channels * (1 + outer % 2)
                layers = [nn.Conv2d(channels, outer, kernel, stride, groups=channels, **window)]
            elif kind == "residual":
                layers, outer, stride = [nn.Conv2d(channels, channels, kernel, 1, **window)], channels, 1
            elif kind == "concat":
                layers, outer, stride = [nn.Conv2d(channels, outer, kernel, 1, **window)], channels + outer, 1
            elif kind in ("max", "avg") and min(height, width) >= 2:
                layers, outer, stride = [nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)], channels, 2
                height, width = height // 2 * 2, width // 2 * 2
            else:
                layers, outer, stride = [nn.BatchNorm2d(channels)] if kind == "norm" else [], channels, 1
            self.kinds.append(kind)
            self.layers.append(nn.Sequential(*layers))
            channels, height, width = outer, -(-height // stride), -(-width // stride)
        self.flat = flat
        self.head = nn.Linear(channels * height * width if flat else channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            y = layer(x)
            if kind == "residual":
                y = torch.relu(y + x)
            elif kind == "concat":
                y = torch.cat([y, x], 1)
            elif kind == "relu6":
                y = functional.relu6(y)
            elif kind == "conv":
                y = torch.relu(y)
            x = y
        if not self.flat:
            x = functional.adaptive_avg_pool2d(x, 1)
        return self.head(x.flatten(1))


@given(blocks, st.integers(1, 3), st.integers(4, 17), st.integers(4, 17), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_network_is_exported_predicted_and_run_exactly(plan, channels, height, width, flat, seed):
    torch.manual_seed(seed)
    network = Drawn(channels, (height, width), plan, flat)
    with torch.no_grad():
        network.train()(torch.randn(8, channels, height, width))
    x = torch.randn(12, channels, height, width)
    traced = trace(network.eval(), (channels, height, width))
    folded = FoldedNet(traced.graph, traced.module)
    assert torch.allclose(folded(x), network(x), atol=1e-4)
    calibrate(folded, x)
    model = quantise(folded)
    data, predicted, measured = (
        write_deployment(model),
        predict_deployment(model),
        measure_model(write_deployment(model)),
    )
    assert (predicted.flash, predicted.arena.total) == (measured.flash, measured.sram)
    assert predicted == predict_deployment(structure_of_graph(traced.graph))
    codes = model_input(model, x.numpy())
    assert np.array_equal(ReferenceInterpreter(model).run(codes), tflm.run(data, codes))


def test_grouped_kernels_of_one_column_are_summed_by_their_groups():
    """The step along an only column may be any number, and is another where channels went; oneDNN reads it (2.13)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(6, 6, 3, padding=1, groups=3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    traced = trace(network, (6, 5))
    folded = FoldedNet(traced.graph, traced.module.eval())
    x = torch.randn(8, 6, 5)
    calibrate(folded, x)
    model = quantise(folded)
    weights = model.ops[0].weights
    assert weights.shape == (6, 3, 1, 2)
    weights = np.lib.stride_tricks.as_strided(weights, strides=(6, 2, 1, 1))
    model = replace(model, ops=(replace(model.ops[0], weights=weights), *model.ops[1:]))
    codes = model_input(model, x.numpy())
    np.testing.assert_array_equal(ReferenceInterpreter(model).run(codes), tflm.run(write_deployment(model), codes))
