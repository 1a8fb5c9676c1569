"""Residual networks of the CIFAR family (He et al., arXiv 1512.03385); ResNet-8 as in MLPerf Tiny."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.networks.layers import Size, conv_bn, network, same_size, scaled


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, size: Size, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, size, stride=stride)
        self.second = conv_bn(outputs, outputs, same_size(size, (stride, stride)), activation=None)
        reshapes = stride != 1 or inputs != outputs
        self.shortcut = (
            conv_bn(inputs, outputs, size, kernel=1, stride=stride, activation=None) if reshapes else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``."""
        return self.relu(torch.add(self.second(self.first(x)), self.shortcut(x)))


def _resnet(input_shape: tuple[int, int, int], classes: int, width: float, blocks: int, channels: int) -> nn.Module:
    inputs, *size = input_shape
    here: Size = (size[0], size[1])
    outputs = scaled(channels, width)
    layers: list[nn.Module] = [conv_bn(inputs, outputs, here)]
    for stage in range(3):
        inputs, outputs = outputs, scaled(channels * 2**stage, width)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(inputs, outputs, here, stride))
            here, inputs = same_size(here, (stride, stride)), outputs
    return network(layers, outputs, classes)


def resnet8(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """One block a stage: 12,501,632 multiply-accumulates on 3x32x32 with 10 classes."""
    return _resnet(input_shape, classes, width, blocks=1, channels=channels)


def resnet20(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """Three blocks a stage."""
    return _resnet(input_shape, classes, width, blocks=3, channels=channels)
