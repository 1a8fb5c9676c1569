"""Residual networks: the CIFAR family (He et al., arXiv 1512.03385), one of separable convolutions, and TC-ResNet along
time (arXiv 1904.03814).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.networks.layers import Size, conv_bn, network, same_size, scaled, separable


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes.

    Args:
        kernel: 3x3 as in the paper, or another, the same for both.
        shortcut: activation of the 1x1 convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Size,
        stride: Size,
        kernel: Size = (3, 3),
        shortcut: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, size, kernel, stride)
        self.second = conv_bn(outputs, outputs, same_size(size, stride), kernel, activation=None)
        reshapes = stride != (1, 1) or inputs != outputs
        self.shortcut = (
            conv_bn(inputs, outputs, size, kernel=1, stride=stride, activation=shortcut) if reshapes else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``, stride by axis."""
        return self.relu(torch.add(self.second(self.first(x)), self.shortcut(x)))


class SeparableBlock(nn.Module):
    """A depthwise and a 1x1 convolution beside the identity."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.depthwise = conv_bn(channels, channels, size, groups=channels)
        self.pointwise = conv_bn(channels, channels, size, kernel=1, activation=None)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to the same shape."""
        return self.relu(torch.add(self.pointwise(self.depthwise(x)), x))


def _resnet(input_shape: tuple[int, int, int], classes: int, width: float, blocks: int, channels: int) -> nn.Module:
    inputs, *size = input_shape
    here: Size = (size[0], size[1])
    outputs = scaled(channels, width)
    layers: list[nn.Module] = [conv_bn(inputs, outputs, here)]
    for stage in range(3):
        inputs, outputs = outputs, scaled(channels * 2**stage, width)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(inputs, outputs, here, (stride, stride)))
            here, inputs = same_size(here, (stride, stride)), outputs
    return network(layers, outputs, classes)


def resnet8(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """One block a stage: 12,501,632 multiply-accumulates on 3x32x32 with 10 classes."""
    return _resnet(input_shape, classes, width, blocks=1, channels=channels)


def resnet20(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """Three blocks a stage."""
    return _resnet(input_shape, classes, width, blocks=3, channels=channels)


SEPARABLE_STAGES = ((16, 1), (32, 2), (48, 1))
"""Channels and residual blocks of each stage."""


def ds_resnet(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """Depthwise-separable layers, four of them beside the identity, for 384 k multiply-accumulates at width 0.84.

    Chosen by benchmarks/pruning/structure_search.py: of ten structures within uNAS's point (arXiv 2010.14246) the one
    with the highest float accuracy after ten epochs of CIFAR-10. Wider ones are for pruning.
    """
    inputs, *size = input_shape
    here: Size = (size[0], size[1])
    layers: list[nn.Module] = []
    for channels, blocks in SEPARABLE_STAGES:
        outputs = scaled(channels, width)
        layers.append((separable if layers else conv_bn)(inputs, outputs, here, stride=2))
        here, inputs = same_size(here, (2, 2)), outputs
        layers += [SeparableBlock(outputs, here) for _ in range(blocks)]
    return network(layers, inputs, classes)


TC8_CHANNELS = (16, 24, 32, 48)
TC14_CHANNELS = (16, 24, 24, 32, 32, 48, 48)


def tc_resnet8(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, kernel: int = 9) -> nn.Module:
    """TC-ResNet8 of Choi et al. (arXiv 1904.03814): on 1x98x40 with 12 classes its 65 k weights are the paper's 66 k.

    Convolutions along time alone. The paper makes the features of a frame channels of a 1-D signal; a first convolution
    that spans all of them is the same, without moving data. The 1x1 shortcuts have a ReLU, as in the authors' code.

    Args:
        kernel: along time, of all convolutions but the first.
    """
    return _temporal(input_shape, classes, width, TC8_CHANNELS, kernel)


def tc_resnet14(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, kernel: int = 9) -> nn.Module:
    """TC-ResNet14 of Choi et al. (arXiv 1904.03814): six blocks; width 1.5 is the paper's largest. See `tc_resnet8`."""
    return _temporal(input_shape, classes, width, TC14_CHANNELS, kernel)


def _temporal(
    input_shape: tuple[int, int, int], classes: int, width: float, channels: tuple[int, ...], kernel: int
) -> nn.Module:
    inputs, frames, values = input_shape
    outputs, *rest = (scaled(count, width) for count in channels)
    layers: list[nn.Module] = [conv_bn(inputs, outputs, (frames, values), (3, values), (1, values))]
    size: Size = (frames, 1)
    for before, (count, after) in zip(channels, zip(channels[1:], rest, strict=True), strict=False):
        stride = (1, 1) if count == before else (2, 1)
        layers.append(ResidualBlock(outputs, after, size, stride, (kernel, 1), nn.ReLU))
        size, outputs = same_size(size, stride), after
    return network(layers, outputs, classes)
