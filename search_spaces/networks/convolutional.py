"""Networks without branches: DS-CNN, a plain stack, a small VGG and one for sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from search_spaces.networks.layers import Size, conv_bn, network, same_size, scaled, separable

VGG_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Channels relative to the first stage, and convolutions."""

MICRO_LAYERS = (("full", 6, 2), ("full", 8, 1), ("separable", 12, 2), ("separable", 26, 2), ("separable", 58, 1))
"""Kind, channels and stride."""

TINY_STAGES = ((1, 5, 4), (2, 3, 2), (4, 3, 1))
"""Channels relative to the first stage, kernel and stride."""


def ds_cnn(
    input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 64, blocks: int = 4
) -> nn.Module:
    """DS-CNN of "Hello Edge" (arXiv 1711.07128) as in MLPerf Tiny.

    2,656,768 multiply-accumulates on 1x49x10 with 12 classes.
    Spectrograms (at least twice as high as wide) get the 10x4 stem of the reference, images a 3x3 stem.
    """
    return _separable_stack(input_shape, classes, scaled(channels, width), (2, 2), [1] * blocks)


def ds_cnn_m(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 172) -> nn.Module:
    """DS-CNN M of "Hello Edge" (arXiv 1711.07128): 9.8 M multiply-accumulates on 1x49x10 with 12 classes.

    The stem keeps the resolution of the features, the first block halves both axes: ``model_size_info`` of the authors'
    train_commands.txt (ARM-software/ML-KWS-for-MCU). Images get the 3x3 stem of `ds_cnn`.
    """
    return _separable_stack(input_shape, classes, scaled(channels, width), (2, 1), [2, 1, 1, 1])


def ds_cnn_l(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 276) -> nn.Module:
    """DS-CNN L, 28.4 M multiply-accumulates on 1x49x10 with 12 classes: five blocks, else as `ds_cnn_m`."""
    return _separable_stack(input_shape, classes, scaled(channels, width), (2, 1), [2, 1, 1, 1, 1])


def _separable_stack(
    input_shape: tuple[int, int, int], classes: int, outputs: int, stride: Size, strides: Sequence[int]
) -> nn.Module:
    """A stem, for spectrograms of 10x4 with its ``stride``, and separable blocks with strides of their own."""
    inputs, height, breadth = input_shape
    size: Size = (height, breadth)
    spectrogram = height >= 2 * breadth and breadth > 1
    kernel, stride = ((10, 4), stride) if spectrogram else ((3, 3), (2, 2))
    layers: list[nn.Module] = [conv_bn(inputs, outputs, size, kernel, stride)]
    size = same_size(size, stride)
    for step in strides:
        layers.append(separable(outputs, outputs, size, stride=step))
        size = same_size(size, (step, step))
    return network(layers, outputs, classes)


def plain_cnn(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 24) -> nn.Module:
    """Seven 3x3 convolutions over three resolutions: 20.5 M multiply-accumulates on 1x28x28."""
    first, middle, last = (scaled(channels * factor, width) for factor in (1, 2, 4))
    plan = [(first, 1), (middle, 2), (middle, 1), (middle, 1), (last, 2), (last, 1), (last, 1)]
    return _stack(input_shape, classes, [(outputs, 3, stride) for outputs, stride in plan])


def vgg_small(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 32) -> nn.Module:
    """VGG-16 for small images (arXiv 1409.1556) with half its channels, batch normalisation and a pooled head.

    13 convolutions of 3x3, 2x2 max pools between the stages: 3.7 M weights.
    """
    inputs, height, breadth = input_shape
    size: Size = (height, breadth)
    layers: list[nn.Module] = []
    for stage, (factor, depth) in enumerate(VGG_STAGES):
        if stage and min(size) >= 2:
            layers.append(nn.MaxPool2d(2))
            size = (size[0] // 2, size[1] // 2)
        for _ in range(depth):
            outputs = scaled(channels * factor, width)
            layers.append(conv_bn(inputs, outputs, size))
            inputs = outputs
    return network(layers, inputs, classes)


def tiny_cnn(input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 16) -> nn.Module:
    """Three convolutions, the first with stride 4: few operators, because each one costs memory.

    Fits 4 KB of arena at 1x28x28 with 12, 24 and 48 channels: 17 KB of flash, 0.2 M multiply-accumulates.
    """
    plan = [(scaled(channels * factor, width), kernel, stride) for factor, kernel, stride in TINY_STAGES]
    return _stack(input_shape, classes, plan)


def micro_cnn(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """Two convolutions and three separable blocks for 10 KB of flash, 15.4 KB of SRAM and 384 k multiply-accumulates.

    Kinds, channels and strides were searched on 3x32x32 pixels by benchmarks/pruning/plain_search.py: the best of 20
    random stacks within these bounds on 10,000 images of CIFAR-10, level with the second (45.9 and 45.8 % after 6
    epochs). Wider ones are for pruning.
    """
    inputs, height, breadth = input_shape
    size: Size = (height, breadth)
    layers: list[nn.Module] = []
    for kind, channels, stride in MICRO_LAYERS:
        outputs = scaled(channels, width)
        layers.append((separable if kind == "separable" else conv_bn)(inputs, outputs, size, stride=stride))
        size, inputs = same_size(size, (stride, stride)), outputs
    return network(layers, inputs, classes)


def tiny_cnn1d(
    input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 32, kernel: int = 5
) -> nn.Module:
    """Five convolutions along time for sequences of shape ``(axes, samples, 1)``, written as kernel x 1."""
    plan = [(channels, 2), (channels, 1), (2 * channels, 2), (2 * channels, 1), (2 * channels, 2)]
    return _stack(
        input_shape, classes, [(scaled(outputs, width), (kernel, 1), (stride, 1)) for outputs, stride in plan]
    )


def _stack(
    input_shape: tuple[int, int, int], classes: int, plan: Sequence[tuple[int, int | Size, int | Size]]
) -> nn.Module:
    inputs, height, breadth = input_shape
    size: Size = (height, breadth)
    layers: list[nn.Module] = []
    for outputs, kernel, stride in plan:
        layers.append(conv_bn(inputs, outputs, size, kernel, stride))
        size = same_size(size, (stride, stride) if isinstance(stride, int) else stride)
        inputs = outputs
    return network(layers, inputs, classes)
