"""Residual networks: the CIFAR family (He et al., arXiv 1512.03385), and TC-ResNet along time (arXiv 1904.03814)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.networks.layers import Size, conv_bn, network, same_size, scaled


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
