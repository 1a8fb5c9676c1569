"""Fully connected networks (the autoencoder of MLPerf Tiny, one for vectors), and one with grid outputs."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from search_spaces.networks.layers import Size, conv_bn, initialise, same_size, scaled

Shape = tuple[int, int, int]


def dense_autoencoder(
    input_shape: Shape, classes: int, width: float = 1.0, channels: int = 128, code: int = 8, depth: int = 4
) -> nn.Module:
    """The anomaly detector of MLPerf Tiny: ``depth`` dense layers, a bottleneck, ``depth`` again, and the output.

    264,192 multiply-accumulates on 640 values. It reconstructs its input, flattened.
    """
    channels = scaled(channels, width)
    sizes = [input_shape[0] * input_shape[1] * input_shape[2], *[channels] * depth, code, *[channels] * depth]
    return _dense(sizes, classes)


def mlp(input_shape: Shape, classes: int, width: float = 1.0, channels: int = 64, depth: int = 2) -> nn.Module:
    """Dense layers for vectors: sensor readings or precomputed features."""
    inputs = input_shape[0] * input_shape[1] * input_shape[2]
    return _dense([inputs, *[scaled(channels, width)] * depth], classes)


def grid_cnn(input_shape: Shape, classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """Object positions: a class for each cell of 8x8 pixels, in the style of FOMO (Edge Impulse, 2022).

    Six convolutions, three of them at stride 2, and 1x1 convolutions to the classes.
    """
    inputs, height, breadth = input_shape
    size: Size = (height, breadth)
    layers: list[nn.Module] = []
    for factor, stride in ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
        outputs = scaled(channels * factor, width)
        layers.append(conv_bn(inputs, outputs, size, 3, stride))
        inputs, size = outputs, same_size(size, (stride, stride))
    layers += [
        conv_bn(inputs, scaled(channels * 2, width), size, 1),
        nn.Conv2d(scaled(channels * 2, width), classes, 1),
    ]
    found = nn.Sequential(OrderedDict((f"layer{index}", layer) for index, layer in enumerate(layers)))
    initialise(found)
    return found


def _dense(sizes: list[int], outputs: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, (inputs, size) in enumerate(pairwise(sizes)):
        layers[f"dense{index}"] = nn.Linear(inputs, size, bias=False)
        layers[f"norm{index}"] = nn.BatchNorm1d(size)
        layers[f"act{index}"] = nn.ReLU()
    layers["head"] = nn.Linear(sizes[-1], outputs)
    return nn.Sequential(layers)
