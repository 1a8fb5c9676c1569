"""Networks drawn from the whole vocabulary, in every form it is written: one function from torch to the interpreter.

``MCUSWEEP_RANDOM_NETWORKS`` says how many are drawn (2,000 take about an hour).
"""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import nn

from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.errors import InputError
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import measure_model, model_input
from mcu.tflite import tflm
from mcu.tracing.trace import trace
from pruning.training.rehearsal import rehearse

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("MCUSWEEP_RANDOM_NETWORKS", "30"))

ALLOWED_REFUSALS = (
    "with padding",  # a max pool of signed values, or an average, whose padding TensorFlow's pools do not have
    "cat of what a sigmoid",
    "windows are not all of one size",
    "in-place operation on a part",
)


def halves(x: torch.Tensor) -> torch.Tensor:
    """A view that comes back, with a size taken from the shape."""
    n, c, h, w = x.shape
    return x.view(n, c, h * w).permute(0, 2, 1).transpose(1, 2).reshape(n, c, h, w)


FORMS = {
    "relu": (F.relu, torch.relu_, lambda x: x.relu(), nn.ReLU(), nn.ReLU(inplace=True), lambda x: x.clamp(min=0)),
    "relu6": (F.relu6, nn.ReLU6(inplace=True), lambda x: torch.clamp(x, 0, 6), lambda x: F.hardtanh_(x, 0.0, 6.0)),
    "sigmoid": (torch.sigmoid, nn.Sigmoid(), lambda x: x.sigmoid_()),
    "tanh": (torch.tanh, nn.Tanh()),
    "silu": (F.silu, nn.SiLU(inplace=True)),
    "hardswish": (F.hardswish, nn.Hardswish()),
    "hardsigmoid": (F.hardsigmoid, nn.Hardsigmoid()),
    "leaky": (lambda x: F.leaky_relu(x, 0.1), nn.LeakyReLU(0.2, inplace=True)),
    "dropout": (nn.Dropout(0.3), nn.Dropout2d(0.3), lambda x: F.dropout(x, 0.3, training=False)),
    "layout": (halves, lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), lambda x: x.contiguous()),
    "constant": (lambda x: x * 0.5, lambda x: x - 1, lambda x: (x + 0.1) / 2, lambda x: -x),
    "max": (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, kernel_size=2, stride=1), nn.MaxPool2d(3, 2, 1),
            lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)),
    "average": (nn.AvgPool2d(2), lambda x: F.avg_pool2d(x, 3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "enlarge": (nn.Upsample(scale_factor=2), lambda x: F.interpolate(x, size=(2 * x.shape[2], x.shape[3]))),
    "pad": (nn.ZeroPad2d((0, 1, 2, 0)), lambda x: F.pad(x, (1, 0)), lambda x: F.pad(x, (0, 0, 1, 1), "constant", 0)),
}  # fmt: skip

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [*FORMS, *("conv", "grouped", "depthwise", "norm", "residual", "in place", "concat", "excite", "gate") * 2]
        ),
        st.integers(0, 5),  # which form
        st.integers(1, 9),  # channels
        st.sampled_from([(1, 1), (3, 3), (3, 1), (5, 3), (2, 2)]),
        st.integers(1, 2),  # stride
        st.booleans(),  # whether an earlier tensor is read again
    ),
    min_size=1,
    max_size=7,
)


class Drawn(nn.Module):
    """The steps as drawn, then one of several heads."""

    def __init__(self, channels: int, size: tuple[int, int], plan: list, head: int) -> None:
        super().__init__()
        self.plan, self.kind, self.layers = plan, head, nn.ModuleList()
        shape = (channels, *size)
        for kind, form, outer, kernel, stride, _ in plan:
            layer = self._layer(kind, form, shape[0], outer, kernel, stride)
            self.layers.append(layer)
            with torch.no_grad():
                shape = tuple(self._step(kind, layer, torch.zeros(2, *shape), None).shape[1:])
            if min(shape) < 1 or max(shape) > 40:
                raise ValueError("nothing left")
        features = int(np.prod(shape)) if head in (2, 3) else shape[0] * (2 if head == 4 else 1)
        self.scores = nn.Linear(features, 4)

    def _layer(self, kind: str, form: int, inner: int, outer: int, kernel: tuple, stride: int) -> nn.Module:
        padding = tuple(k // 2 for k in kernel)
        if kind == "conv":
            norm = [nn.BatchNorm2d(outer)] if form % 2 else []
            return nn.Sequential(nn.Conv2d(inner, outer, kernel, stride, padding, bias=form > 2), *norm)
        if kind == "depthwise":
            return nn.Conv2d(inner, inner * (1 + outer % 2), kernel, stride, padding, groups=inner)
        if kind == "grouped":
            parts = next(n for n in (4, 3, 2, 1) if inner % n == 0)
            return nn.Conv2d(inner, parts * (1 + outer % 4), kernel, stride, padding, groups=parts)
        if kind == "norm":
            return nn.BatchNorm2d(inner)
        if kind in ("residual", "in place", "gate"):
            return nn.Sequential(nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner))
        if kind == "concat":
            return nn.Conv2d(inner, outer, 1)
        if kind == "excite":
            return nn.Sequential(nn.Conv2d(inner, outer, 1), nn.ReLU(), nn.Conv2d(outer, inner, 1))
        forms = FORMS[kind]
        chosen = forms[form % len(forms)]
        return chosen if isinstance(chosen, nn.Module) else Applied(chosen)

    def _step(self, kind: str, layer: nn.Module, x: torch.Tensor, earlier: torch.Tensor | None) -> torch.Tensor:
        if kind == "residual":
            return layer(x) + x
        if kind == "in place":
            y = layer(x)
            y += x
            return F.relu_(y)
        if kind == "concat":
            return torch.cat([layer(x).relu(), x], dim=1)
        if kind == "excite":
            return x * torch.sigmoid(layer(F.adaptive_avg_pool2d(x, 1)))
        if kind == "gate":
            return torch.tanh(layer(x)) * x
        y = layer(x)
        if earlier is not None and earlier.shape == y.shape:
            y = torch.add(y, earlier)
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        earlier = None
        for (kind, _, _, _, _, again), layer in zip(self.plan, self.layers, strict=True):
            y = self._step(kind, layer, x, earlier)
            earlier, x = (x, y) if again else (None, y)
        heads = (
            lambda: x.mean((2, 3)),
            lambda: F.adaptive_max_pool2d(x, 1).flatten(1),
            lambda: torch.flatten(x, 1),
            lambda: x.reshape(x.size(0), -1),
            lambda: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, (1, 1))], 1)[:, :, 0, 0],
            lambda: F.avg_pool2d(x, x.shape[2:]).squeeze(3).squeeze(2),
        )
        return self.scores(heads[self.kind]())


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
@given(steps, st.integers(1, 3), st.integers(6, 14), st.integers(6, 14), st.integers(0, 5), st.integers(0, 999))
@settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_network_is_one_function_from_torch_to_the_interpreter(plan, channels, height, width, head, seed):
    torch.manual_seed(seed)
    try:
        network = Drawn(channels, (height, width), plan, head)
    except (ValueError, RuntimeError):
        event("nothing left")  # windows larger than the map
        return
    shape = (channels, height, width)
    try:
        traced = trace(network, shape)
    except InputError as error:
        if not any(reason in str(error) for reason in ALLOWED_REFUSALS):
            raise
        event("refused")
        return
    event("proven")
    rehearse(traced, shape, seed)
    x = torch.randn(8, *shape)
    network.eval()
    folded = FoldedNet(traced.graph, traced.module.eval())
    with torch.no_grad():
        wanted = network(x.clone())
    torch.testing.assert_close(folded(x), wanted, atol=2e-4 * max(1.0, float(wanted.abs().max())), rtol=1e-3)
    folded.calibrate(x)
    model = quantise(folded)
    data, predicted = write_deployment(model), predict_deployment(model)
    measured = measure_model(data)
    assert (predicted.flash, predicted.arena.total) == (measured.flash, measured.sram)
    codes = model_input(model, x.numpy())
    assert np.array_equal(ReferenceInterpreter(model).run(codes), tflm.run(data, codes))
