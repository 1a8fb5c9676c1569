"""Forms of operators, each through every floor: gates, surgery, int8, file and arena to the byte, the interpreter."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import equalise, quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter, dequantise
from mcu.measure import measure_model, model_input
from mcu.tflite import tflm
from mcu.tracing.trace import trace
from pruning.engine import gates, surgery

SHAPE = (3, 9, 8)


class Form(nn.Module):
    """A convolution to 8 maps of 9 x 8, whatever ``body`` makes of them with ``middle``, and class scores."""

    def __init__(self, body, middle: nn.Module | None = None, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.middle = middle or nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.scores = nn.Conv2d(channels, 6, 2), nn.Linear(6, 4)
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(F.relu(self.last(self.body(self, self.first(x)))).mean((2, 3)))


def parts(net, x):
    a, b, c = net.middle(x).split([3, 4, 1], 1)
    return torch.cat([b.relu(), c, a], 1)


def units(net, x):
    x = net.middle(x)
    for _ in range(3):
        left, right = x.chunk(2, 1)
        both = torch.cat([left, F.avg_pool2d(right, 3, 1, 1).relu()], 1)
        x = both.view(-1, 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    return x


def first_channels(net, x):
    y = net.middle(x)
    return torch.cat([y[:, :5] + x[:, 3:], x[:, [1, 0]] * y[:, 5:7]], 1)


def windows(net, x):
    y = F.pixel_unshuffle(net.middle(x)[:, :, 1:], 2)
    return torch.cat([y[:, ::4], x[:, :, ::2, ::2][:, :, :4]], 1)


FORMS = {
    "clamp with both bounds": Form(lambda m, x: m.middle(x.clamp(-0.3, 0.4)).clamp(0, 0.7)),
    "clamp from above": Form(lambda m, x: m.middle(x.clamp(max=0.5)).clamp_(max=0.2)),
    "clamp from below": Form(lambda m, x: m.middle(x.clamp(min=-0.5))),
    "bounds above zero": Form(lambda m, x: m.middle(x.clamp(0.2, 0.9)) + x.clamp(min=0.1)),
    "bounds below zero": Form(lambda m, x: m.middle(x.clamp(-0.9, -0.2)) + x.clamp(max=-0.1)),
    "hardtanh, sums and pools": Form(lambda m, x: F.hardtanh(m.middle(F.hardtanh(x)) + F.max_pool2d(x, 3, 1, 1))),
    "bounds behind a pool": Form(lambda m, x: F.hardtanh(F.max_pool2d(m.middle(x), 2), 0, 0.5).clamp(-0.1, 0.3)),
    "bounds of two readers": Form(lambda m, x: m.middle(x.clamp(-0.2, 0.2)) * x),
    "bounds joined": Form(
        lambda m, x: torch.cat([x.clamp(0, 0.3), F.max_pool2d(m.middle(x), 1).clamp(0, 0.3)], 1), channels=16
    ),
    "bounds joined with others": Form(
        lambda m, x: torch.cat([F.hardtanh(F.max_pool2d(x, 1), -0.1, 0.1), m.middle(x).relu(), x], 1), channels=24
    ),
    "gates joined": Form(lambda m, x: torch.cat([torch.tanh(x), torch.sigmoid(m.middle(x))], 1), channels=16),
    "padded max pool of signed values": Form(lambda m, x: F.max_pool2d(m.middle(F.max_pool2d(x, 3, 2, 1)), 2, 1, 1)),
    "max pool in ceil mode": Form(lambda m, x: m.middle(F.max_pool2d(x, (2, 3), ceil_mode=True))),
    "max pool behind minus infinity": Form(
        lambda m, x: F.max_pool2d(
            F.pad(F.max_pool2d(F.pad(x, (1, 1, 1, 0), value=-torch.inf), 2, 1), (1, 0), value=-1e9), 2
        )
    ),
    "padding with a value": Form(
        lambda m, x: m.middle(F.pad(nn.ConstantPad2d((2, 1, 0, 1), -1.5)(x), (1, 1), value=9.0))
    ),
    "padding with a value beyond bounds": Form(
        lambda m, x: F.pad(F.relu(m.middle(F.pad(F.hardtanh(x), (1, 1), value=2.0))), (0, 1), value=-0.5)
    ),
    "padding of a gate": Form(lambda m, x: F.pad(m.middle(x).sigmoid(), (1, 1), value=-1)),
    "one layer several times": Form(lambda m, x: F.relu(m.middle(x)) + F.relu(m.middle(F.relu(m.middle(x))))),
    "one block of several sizes": Form(
        lambda m, x: F.max_pool2d(m.middle(x), 2) + m.middle(F.max_pool2d(x, 2)),
        nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)),
    ),
    "one layer, several norms": Form(
        lambda m, x: m.middle[1](m.middle[0](x)) + m.middle[2](m.middle[0](x.relu())),
        nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.BatchNorm2d(8)]),
    ),
    "one norm, one gain, one linear": Form(
        lambda m, x: m.middle[0](F.relu(x) + x * m.middle[0].weight.view(-1, 1, 1)) * m.middle[0].weight.view(-1, 1, 1)
        + m.middle[1](m.middle[1](x.permute(0, 2, 3, 1)).relu()).permute(0, 3, 1, 2),
        nn.ModuleList([nn.BatchNorm2d(8), nn.Linear(8, 8)]),
    ),
    "slopes, of two uses": Form(
        lambda m, x: m.middle[1](F.max_pool2d(m.middle[0](m.middle[1](x)), 2)) + m.middle[2](F.max_pool2d(x, 2)),
        nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8, -0.3), nn.PReLU()]),
    ),
    "transposed, SAME and cut": Form(
        lambda m, x: m.middle(x), nn.Sequential(
            nn.ConvTranspose2d(8, 7, 4, 2, 1), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d(2),
            nn.ConvTranspose2d(7, 8, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        ),
    ),
    "transposed, whole": Form(
        lambda m, x: m.middle[0](x) + m.middle[1](x)[:, :, :, 1:], nn.ModuleList(
            [nn.ConvTranspose2d(8, 8, (3, 2), 2, output_padding=(1, 0)), nn.ConvTranspose2d(8, 8, (4, 3), 2)]
        ),
    ),
    "bilinear to any size": Form(
        lambda m, x: F.interpolate(m.middle(nn.Upsample((7, 13), mode="bilinear")(x)), (5, 6), mode="bilinear")
        + nn.Upsample((5, 6), mode="bilinear", align_corners=True)(x)
    ),
    "bilinear": Form(
        lambda m, x: F.interpolate(F.max_pool2d(m.middle(x), 2), scale_factor=2, mode="bilinear")
        + nn.UpsamplingNearest2d(scale_factor=2)(F.max_pool2d(x, 2))
    ),
    "threshold": Form(lambda m, x: m.middle(F.threshold(x, 0.1, 0.1))),
    "elu": Form(lambda m, x: m.middle(F.elu(x)) + nn.ELU()(x)),
    "parts": Form(parts),
    "shuffled units": Form(units),
    "first channels": Form(first_channels, channels=7),
    "rows and columns": Form(windows, channels=16),
    "parts with bounds": Form(
        lambda m, x: torch.cat([x.clamp(-0.2, 0.3)[:, :4], m.middle(x)[:, 3:], F.hardtanh(x)[:, [1]]], 1), channels=10
    ),
    "pooled to more": Form(lambda m, x: F.adaptive_avg_pool2d(F.max_pool2d(m.middle(x), 4), (5, 3))),
    "gated linear unit": Form(lambda m, x: F.glu(m.middle(x), 1), channels=4),
    "a shuffle before groups": Form(lambda m, x: m.middle(F.channel_shuffle(x, 4)), nn.Conv2d(8, 8, 3, groups=2)),
    "a shuffle in a sum": Form(lambda m, x: F.channel_shuffle(m.middle(x), 2) + x),
    "celu": Form(lambda m, x: F.celu(m.middle(nn.CELU()(x)), 0.3)),
}  # fmt: skip


def prepared(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = copy.deepcopy(FORMS[name])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * (0.5 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
            )
        for _ in range(20):
            module.train()(torch.randn(8, *SHAPE))
    return module.eval()


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_pruned_predicted_and_run_exactly(name):
    module, x = prepared(name), torch.randn(48, *SHAPE)
    traced = trace(module, SHAPE)
    scores = module(x).detach()
    torch.testing.assert_close(traced.module(x), scores, atol=1e-4, rtol=1e-3)
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(g.size)[: rng.integers(1, g.size + 1)]) for g in traced.graph.groups]
    bank = gates.attach(traced.module, traced.graph)
    bank.set_hard(kept)
    with torch.no_grad():
        gated = traced.module(x)
        graph = surgery.shrink(traced.module, traced.graph, kept)
        gates.detach(traced.module)
        torch.testing.assert_close(traced.module(x), gated, atol=1e-4, rtol=1e-3)
    folded = FoldedNet(graph, traced.module)
    equalise(folded)
    torch.testing.assert_close(folded(x), gated, atol=1e-4, rtol=1e-3)
    calibrate(folded, x)
    model = quantise(folded)
    data = write_deployment(model)
    predicted, measured = predict_deployment(model), measure_model(data)
    assert (predicted.flash, predicted.arena.total) == (measured.flash, measured.sram)
    codes = model_input(model, x.numpy())
    found = ReferenceInterpreter(model).run(codes)
    assert np.array_equal(found, tflm.run(data, codes))
    real = dequantise(found, model.tensors[model.output]).reshape(gated.shape)
    assert np.abs(real - gated.numpy()).max() < 0.12 * float(gated.abs().max())
