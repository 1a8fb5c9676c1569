"""Rules for layers with weights: convolutions, dense layers, batch normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import fx, nn

from mcu.graph.layers import Convolution, PReLU, TransposedConvolution, pad
from mcu.graph.windows import NO_PADDING, Pair, own_padding
from mcu.tracing.builder import Builder, Constant, Image, Rule, Value
from mcu.tracing.layout import Axis, Layout, Piece, plain

DEFAULT_MOMENTUM = 0.1
"""Of batch normalisation that asks for the plain mean of all batches, which does not follow weights that change."""

LEAST_MOMENTUM = 0.03
"""With less (torchvision's MNASNet has 0.0003, for runs of a million steps) running statistics are those of the
initial weights for a good part of a job, and what is validated is noise."""


def convolution(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Convolutions over one or two axes, including depthwise ones."""
    weight = _constant(b, a["weight"], "the weights of a convolution")
    outer, groups = int(weight.tensor.shape[0]), int(a["groups"])
    image = b.map(b.ordered(a["input"], "a convolution"))
    if groups > 1 or b.is_shared(weight):
        image = b.in_order(image)
    channels = image.sizes[1]
    kernel = b.spatial(image, weight.tensor.shape[2:], 1)
    stride, dilation = b.spatial(image, a["stride"], 1), b.spatial(image, a["dilation"], 1)
    own = _own_padding(b, image, a["padding"], kernel, dilation)
    weight = _reordered(weight, torch.tensor(image.stored))
    symmetric = own[0][0] == own[0][1] and own[1][0] == own[1][1]
    if not symmetric:
        batch, channels, height, width = image.sizes
        image = b.call(pad, image, own, sizes=(batch, channels, height + sum(own[0]), width + sum(own[1])))
        own = NO_PADDING
    settings: dict[str, Any] = {"padding": (own[0][0], own[1][0]), "dilation": dilation, "groups": groups}
    layer = Convolution(channels, outer, kernel, stride, **settings, device="meta")
    layer.weight = cast(nn.Parameter, b.parameter(weight, (outer, channels // groups, *kernel)))
    layer.bias = b.parameter(a["bias"])
    sizes = b.sizes_of(image, outer, node.meta["val"].shape)
    return b.weighted(weight, layer, image, sizes)


def transposed(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Transposed convolutions over one or two axes."""
    weight = _constant(b, a["weight"], "the weights of a transposed convolution")
    image = b.map(b.ordered(a["input"], "a transposed convolution"))
    image = b.in_order(image) if b.is_shared(weight) else image
    if int(a["groups"]) != 1:
        b.refuse(
            f"a transposed convolution in {a['groups']} groups has no int8 kernel in mcusweep",
            "use groups=1, or nn.Upsample(scale_factor=2) and a convolution in groups",
        )
    if b.spatial(image, a["dilation"], 1) != (1, 1):
        b.refuse("a transposed convolution with dilation has no int8 kernel in mcusweep", "use dilation=1")
    stride, padding = b.spatial(image, a["stride"], 1), b.spatial(image, a["padding"], 0)
    turned = Constant(weight.tensor.detach().transpose(0, 1).contiguous(), weight.name)
    turned = _reordered(turned, torch.tensor(image.stored))
    outer, kernel = int(turned.tensor.shape[0]), b.spatial(image, turned.tensor.shape[2:], 1)
    parameter = cast(nn.Parameter, b.parameter(turned, (outer, image.sizes[1], *kernel)))
    layer = TransposedConvolution(parameter, stride, padding, b.spatial(image, a["output_padding"], 0))
    layer.bias = b.parameter(a["bias"])
    return b.weighted(weight, layer, image, b.sizes_of(image, outer, node.meta["val"].shape))


def prelu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A slope below zero, of one value or one for each channel."""
    weight, value = _constant(b, a["weight"], "the slopes of a PReLU"), a["self"]
    if not isinstance(value, Image):
        b.refuse("PReLU of a constant")
    if weight.tensor.numel() > 1:
        if len(value.layout) == 2 and value.sizes[2:] != (1, 1):
            b.refuse("PReLU with several slopes on a flattened map", "put nn.PReLU before the flattening")
        value = b.image(value, "PReLU")
    layer = PReLU(cast(nn.Parameter, b.parameter(weight, (weight.tensor.numel(),))))
    return b.weighted(weight, layer, value)


def _own_padding(b: Builder, image: Image, given: Any, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    if isinstance(given, str):
        return own_padding(given, kernel, dilation)
    rows, columns = b.spatial(image, given, 0)
    return (rows, rows), (columns, columns)


def _constant(b: Builder, value: Any, what: str) -> Constant:
    if not isinstance(value, Constant):
        b.refuse(f"{what} depend on the data", "use weights that are parameters")
    return cast(Constant, value)


def dense(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A dense layer on rows, flattened maps, or on the channels of every position."""
    value, weight = a["input"], _constant(b, a["weight"], "the weights of a dense layer")
    if not isinstance(value, Image):
        b.refuse("a dense layer on a constant")
    if b.is_shared(weight):
        value = b.in_order(value)
    layout, sizes = value.layout, value.sizes
    outer = int(weight.tensor.shape[0])
    batch = plain(sizes, 1)
    if len(layout) == 2 and layout[:1] == batch:
        order = torch.tensor(_features(layout[1], sizes, value.stored))
        row = b.row(b.map(value) if value.sizes[2:] != (1, 1) else value)
        linear = nn.Linear(row.sizes[1], outer, device="meta")
        linear.weight = cast(nn.Parameter, b.parameter(_reordered(weight, order)))
        linear.bias = cast(nn.Parameter, b.parameter(a["bias"]))
        return b.weighted(weight, linear, row, (sizes[0], outer, 1, 1))
    channels = _features(layout[-1], (*sizes[:2], 1, 1), value.stored) if _is_channels(layout[-1]) else []
    if len(channels) != sizes[1] or layout[0] != batch[0]:
        b.refuse(
            "a dense layer along an axis that is not the channels",
            "nn.Linear takes (N, features), or a tensor with its channels last; use a convolution along the axis",
        )
    image = b.map(value)
    layer = Convolution(sizes[1], outer, 1, device="meta")
    weight = _reordered(weight, torch.tensor(channels))
    layer.weight = cast(nn.Parameter, b.parameter(weight, (outer, sizes[1], 1, 1)))
    layer.bias = b.parameter(a["bias"])
    made = b.weighted(weight, layer, image, (sizes[0], outer, *sizes[2:]))
    return replace(made, layout=_with_channels(layout, outer))


def _is_channels(dimension: tuple[Piece, ...]) -> bool:
    return all(piece.axis == Axis.CHANNELS for piece in dimension)


def _with_channels(layout: Layout, channels: int) -> Layout:
    return (*layout[:-1], (Piece(Axis.CHANNELS, channels),) if channels > 1 else ())


def _features(dimension: tuple[Piece, ...], sizes: tuple[int, int, int, int], stored: tuple[int, ...]) -> list[int]:
    """For each feature of a flattened image, where it lies in ``(C, H, W)`` as it is stored."""
    steps = {Axis.CHANNELS: sizes[2] * sizes[3], Axis.HEIGHT: sizes[3], Axis.WIDTH: 1}
    found = [0]
    for piece in dimension:
        found = [at + k * piece.stride * steps[piece.axis] for at in found for k in range(piece.size)]
    positions = sizes[2] * sizes[3]
    return [stored[at // positions] * positions + at % positions for at in found]


def _reordered(weight: Constant, order: torch.Tensor) -> Constant:
    if torch.equal(order, torch.arange(len(order))):
        return weight
    columns = torch.argsort(order)
    return Constant(weight.tensor.detach()[:, columns.to(weight.tensor.device)], weight.name)


def batch_norm(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Batch normalisation with running statistics, over one, two or no axes."""
    if a["running_mean"] is None or a["training"]:
        b.refuse(
            "batch normalisation without running statistics (track_running_stats=False)",
            "use track_running_stats=True: on a microcontroller there is no batch",
        )
    value = a["input"]
    if isinstance(value, Image) and len(value.layout) == 2 and value.sizes[2:] != (1, 1):
        b.refuse(f"BatchNorm1d on a flattened map of {value.sizes[1:]}", "put nn.BatchNorm2d before the flattening")
    image = b.image(value, "batch normalisation")
    mean = _constant(b, a["running_mean"], "its statistics")
    kind = nn.BatchNorm1d if image.row else nn.BatchNorm2d
    norm = kind(image.sizes[1], float(a["eps"]), _momentum(b, mean, a["momentum"]), affine=False, device="meta")
    norm.weight, norm.bias = b.parameter(a["weight"]), b.parameter(a["bias"])  # type: ignore[assignment]
    norm.affine = norm.weight is not None
    norm.running_mean, norm.running_var = mean.tensor, a["running_var"].tensor
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=mean.tensor.device)
    return b.layer(_stem(b, mean), norm, image) if a["weight"] is None else b.weighted(a["weight"], norm, image)


def _stem(b: Builder, mean: Constant) -> str:
    return b.unique(mean.name.rpartition(".")[0] or b.path())


def _momentum(b: Builder, mean: Constant, given: float) -> float:
    owner = b.owner.get(mean.name.rpartition(".")[0])
    momentum = getattr(owner, "momentum", given)
    if momentum and momentum < LEAST_MOMENTUM:
        b.note(f"batch normalisation uses momentum {LEAST_MOMENTUM}, not {momentum:.2g}: jobs are short")
    return max(float(momentum), LEAST_MOMENTUM) if momentum else DEFAULT_MOMENTUM


WEIGHTED: dict[str, Rule] = {
    "conv1d": convolution,
    "conv2d": convolution,
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), transposed),
    "linear": dense,
    "prelu": prelu,
    "batch_norm": batch_norm,
}
