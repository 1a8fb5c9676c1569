"""Convolution, batch normalisation and ReLU with TensorFlow's SAME padding, exact at every stride.

SAME at stride 2 pads an even size on the bottom and right only, so the padding depends on the input size:
every layer is built for its input size, and returns the next size.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

Size = tuple[int, int]
MIN_CHANNELS = 4


def scaled(channels: int, width: float) -> int:
    """``channels`` times the width multiplier, rounded, at least 4."""
    return max(MIN_CHANNELS, int(channels * width + 0.5))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after along one axis so that the output has ``ceil(size / stride)`` positions."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def same_size(size: Size, stride: Size) -> Size:
    """Height and width after a SAME layer."""
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])


def conv_bn(
    inputs: int,
    outputs: int,
    size: Size,
    kernel: int | Size = 3,
    stride: int | Size = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and an activation for an input of ``size``."""
    kernel, stride = _pair(kernel), _pair(stride)
    (top, bottom), (left, right) = (same_padding(size[axis], kernel[axis], stride[axis]) for axis in (0, 1))
    symmetric = top == bottom and left == right
    padding = (top, left) if symmetric else (0, 0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if not symmetric:
        layers["pad"] = nn.ZeroPad2d((left, right, top, bottom))
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    layers["norm"] = nn.BatchNorm2d(outputs)
    if activation is not None:
        layers["act"] = activation()
    return nn.Sequential(layers)


def separable(inputs: int, outputs: int, size: Size, kernel: int | Size = 3, stride: int | Size = 1) -> nn.Sequential:
    """Depthwise convolution, then a 1x1 convolution, each with batch normalisation and ReLU."""
    after = same_size(size, _pair(stride))
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_bn(inputs, inputs, size, kernel, stride, groups=inputs),
            pointwise=conv_bn(inputs, outputs, after, kernel=1),
        )
    )


def network(layers: list[nn.Module], features: int, classes: int) -> nn.Sequential:
    """``stem``, ``block1``, ``block2``, ... and the head: global average pool and a linear layer."""
    named = OrderedDict((f"block{index}" if index else "stem", layer) for index, layer in enumerate(layers))
    named["pool"], named["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    named["head"] = nn.Linear(features, classes)
    return nn.Sequential(named)


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions (He et al., arXiv 1502.01852); draws from torch's generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _pair(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else value
