"""Causal networks along time: what they say of a moment rests on the past alone, so a stream needs few new columns."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from search_spaces.networks.layers import scaled

DILATIONS = (1, 2, 4, 8)
"""Of the blocks: with kernels of 3 the last step sees 31 after the stem's 3."""


class LastStep(nn.Module):
    """The last step of a sequence ``(N, C, T, 1)``: ``(N, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """The rows before it are not looked at."""
        return x[:, :, -1:].flatten(1)


def causal_cnn(
    input_shape: tuple[int, int, int], classes: int, width: float = 1.0, channels: int = 48, kernel: int = 3
) -> nn.Module:
    """A temporal convolutional network: causal, dilated, depthwise separable; the last step gives the class.

    After Bai et al. (arXiv 1803.01271), with depthwise-separable blocks and without their shortcuts. The first
    convolution spans all features of a step, as in TC-ResNet; zeros are added before the first step only.
    """
    inputs, _, values = input_shape
    outputs = scaled(channels, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_causal(inputs, outputs, (kernel, values)))
    for number, dilation in enumerate(DILATIONS, 1):
        layers[f"block{number}"] = nn.Sequential(
            OrderedDict(
                depthwise=_causal(outputs, outputs, (kernel, 1), dilation, groups=outputs),
                pointwise=_causal(outputs, outputs, (1, 1)),
            )
        )
    layers["last"], layers["head"] = LastStep(), nn.Linear(outputs, classes)
    return nn.Sequential(layers)


def _causal(inputs: int, outputs: int, kernel: tuple[int, int], dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Zeros before the first step, convolution, batch normalisation and ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if kernel[0] > 1:
        layers["pad"] = nn.ZeroPad2d((0, 0, (kernel[0] - 1) * dilation, 0))
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, dilation=(dilation, 1), groups=groups, bias=False)
    layers["norm"], layers["act"] = nn.BatchNorm2d(outputs), nn.ReLU()
    return nn.Sequential(layers)
