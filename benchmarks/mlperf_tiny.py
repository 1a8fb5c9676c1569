"""The four reference networks of MLPerf Tiny, rebuilt in torch with TensorFlow's padding, beside the published models.

MACs must be equal; the file and the arena are ours. Run: OMP_NUM_THREADS=1 python benchmarks/mlperf_tiny.py [file.md]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from mcu.deployment import write_deployment
from mcu.float_net import FloatNet
from mcu.host_twin import HostTwin
from mcu.measure import check_against_interpreter, live_memory, measure_model, model_input
from mcu.quantize import quantise
from mcu.trace import trace
from mcu.windows import same_padding


def conv(
    size: list[int], inner: int, outer: int, kernel: tuple[int, int], stride: int, groups: int = 1
) -> list[nn.Module]:
    """A convolution with TensorFlow's SAME padding and batch normalisation; ``size`` is updated."""
    (top, bottom), (left, right) = (same_padding(s, k, stride) for s, k in zip(size, kernel, strict=True))
    size[:] = [-(-s // stride) for s in size]
    layers: list[nn.Module] = [nn.ZeroPad2d((left, right, top, bottom))] if top + bottom + left + right else []
    return [*layers, nn.Conv2d(inner, outer, kernel, stride, groups=groups, bias=False), nn.BatchNorm2d(outer)]


class Stack(nn.Module):
    """A residual stack: two 3x3 convolutions beside nothing or a 1x1 convolution."""

    def __init__(self, size: list[int], inner: int, outer: int, stride: int) -> None:
        super().__init__()
        before = list(size)
        self.body = nn.Sequential(
            *conv(size, inner, outer, (3, 3), stride), nn.ReLU(), *conv(size, outer, outer, (3, 3), 1)
        )
        self.skip = nn.Sequential(*conv(before, inner, outer, (1, 1), stride)) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def resnet8() -> nn.Module:
    size = [32, 32]
    layers = [*conv(size, 3, 16, (3, 3), 1), nn.ReLU(), Stack(size, 16, 16, 1), Stack(size, 16, 32, 2)]
    layers.append(Stack(size, 32, 64, 2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def separable(size: list[int], inner: int, outer: int, stride: int) -> list[nn.Module]:
    depthwise = conv(size, inner, inner, (3, 3), stride, inner)
    return [*depthwise, nn.ReLU(), *conv(size, inner, outer, (1, 1), 1), nn.ReLU()]


def ds_cnn() -> nn.Module:
    size = [49, 10]
    layers = [*conv(size, 1, 64, (10, 4), 2), nn.ReLU()]
    for _ in range(4):
        layers += separable(size, 64, 64, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


def mobilenet() -> nn.Module:
    size = [96, 96]
    layers, inner = [*conv(size, 3, 8, (3, 3), 2), nn.ReLU()], 8
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for outer, stride in plan:
        layers += separable(size, inner, outer, stride)
        inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2))


def autoencoder() -> nn.Module:
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640))


@dataclass(frozen=True)
class Published:
    """The published int8 model's figures."""

    network: nn.Module
    shape: tuple[int, ...]
    file: int
    macs: int
    peak: int


CASES = {
    "ResNet-8, 3x32x32, 10": Published(resnet8(), (3, 32, 32), 98_496, 12_501_632, 49_152),
    "DS-CNN, 1x49x10, 12": Published(ds_cnn(), (1, 49, 10), 53_936, 2_656_768, 16_000),
    "MobileNetV1 x 0.25, 3x96x96, 2": Published(mobilenet(), (3, 96, 96), 333_288, 7_489_664, 55_296),
    "autoencoder, 640": Published(autoencoder(), (640,), 276_976, 264_192, 768),
}


def row(name: str, published: Published) -> str:
    torch.manual_seed(0)
    x = torch.randn(32, *published.shape)
    with torch.no_grad():
        for _ in range(3):
            published.network.train()(x)
    traced = trace(published.network.eval(), published.shape)
    folded = FloatNet(traced.graph, traced.module)
    folded.calibrate(x)
    model = quantise(folded)
    data = write_deployment(model)
    measured = measure_model(data)
    check_against_interpreter(data, HostTwin(model), model_input(model, x.numpy())[:8])
    cells = [
        name,
        f"{published.macs:,}",
        f"{measured.macs:,}",
        f"{published.file:,}",
        f"{measured.flash:,}",
        f"{published.peak:,}",
        f"{max(live_memory(model)):,}",
        f"{measured.sram_activations:,}",
        f"{measured.sram:,}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        "# MLPerf Tiny's networks, rebuilt in torch",
        "",
        "Command: `OMP_NUM_THREADS=1 python benchmarks/mlperf_tiny.py docs/results/mlperf_tiny.md`",
        "",
        "Published: the int8 models of MLPerf Tiny. Ours: untrained networks of the same shape, quantised, written "
        "and measured by TensorFlow Lite Micro; the host twin equals the interpreter on every output compared.",
        "",
        "| network | MACs, published | MACs, ours | file, published | file, ours | peak activations, published "
        "| peak activations, ours | arena for activations | arena |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(name, published) for name, published in CASES.items()),
    ]
    print("\n".join(lines))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
