"""MobileNets; images below 64 pixels keep their size in the first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.networks.layers import Size, conv_bn, network, same_size, scaled, separable

V1_BODY = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
V2_BODY = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
SMALL_PICTURE = 64


def mobilenet_v1(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """MobileNet (arXiv 1704.04861); width 0.25 on 3x96x96 with 2 classes is MLPerf Tiny's: 7,489,664 MACs."""
    channels, height, breadth = input_shape
    stride = _stem_stride((height, breadth))
    inputs = scaled(32, width)
    layers: list[nn.Module] = [conv_bn(channels, inputs, (height, breadth), stride=stride)]
    size = same_size((height, breadth), (stride, stride))
    for channels, stride in V1_BODY:
        outputs = scaled(channels, width)
        layers.append(separable(inputs, outputs, size, stride=stride))
        size, inputs = same_size(size, (stride, stride)), outputs
    return network(layers, inputs, classes)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection, with a shortcut where the shape allows."""

    def __init__(self, inputs: int, outputs: int, size: Size, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        after = same_size(size, (stride, stride))
        self.expand = conv_bn(inputs, hidden, size, 1, activation=nn.ReLU6) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn(hidden, hidden, size, 3, stride, groups=hidden, activation=nn.ReLU6)
        self.project = conv_bn(hidden, outputs, after, 1, activation=None)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``."""
        y = self.project(self.depthwise(self.expand(x)))
        return torch.add(x, y) if self.adds else y


def mobilenet_v2(
    input_shape: tuple[int, int, int], classes: int, width: float = 1.0, early_stride: int = 2
) -> nn.Module:
    """MobileNetV2 (arXiv 1801.04381); the stem keeps the resolution of images below 64 pixels.

    Args:
        early_stride: of the second stage; 1 as usual on the 32 pixels of CIFAR (kuangliu/pytorch-cifar): 4x4 positions
            remain before the pool instead of 2x2, for about 3.5 times the multiply-accumulates.
    """
    channels, height, breadth = input_shape
    stride = _stem_stride((height, breadth))
    inputs = scaled(32, width)
    layers: list[nn.Module] = [conv_bn(channels, inputs, (height, breadth), stride=stride, activation=nn.ReLU6)]
    size = same_size((height, breadth), (stride, stride))
    for stage, (expansion, channels, repeats, first_stride) in enumerate(V2_BODY):
        outputs = scaled(channels, width)
        first_stride = early_stride if stage == 1 else first_stride
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            layers.append(InvertedResidual(inputs, outputs, size, stride, expansion))
            size, inputs = same_size(size, (stride, stride)), outputs
    last = scaled(1280, max(width, 1.0))
    layers.append(conv_bn(inputs, last, size, 1, activation=nn.ReLU6))
    return network(layers, last, classes)


def _stem_stride(size: Size) -> int:
    return 1 if min(size) < SMALL_PICTURE else 2
