"""Rules for pools, spatial reductions and zero padding."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

from torch import fx

from mcu.graph import layers
from mcu.graph.windows import NO_PADDING, Pair, reached_padding
from mcu.tracing.builder import Builder, Image, Rule, Value
from mcu.tracing.elementwise import scaled
from mcu.tracing.layout import Axis, Piece

LARGEST = 1e4
"""Padding beyond this is no value that a network computes with; below, it stands for nothing before a max pool."""


def max_pool(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Max pool with any padding and ``ceil_mode``."""
    if any(int(d) != 1 for d in _numbers(a["dilation"])):
        b.refuse("a max pool with dilation", "use dilation=1")
    image = b.map(b.ordered(a["self"], "a max pool"))
    return _pool(b, node, image, a, layers.max_pool)


def max_pool_with_indices(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A max pool whose indices are not used."""
    return (max_pool(b, node, a), None)


def average_pool(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Average pool; padding that counts in the mean becomes a PAD operator before it."""
    image = b.map(b.ordered(a["self"], "an average pool"))
    if a.get("divisor_override") is not None:
        b.refuse("an average pool with divisor_override", "leave it out")
    rows, columns = b.spatial(image, a["padding"], 0)
    if (rows or columns) and a.get("count_include_pad", True):
        if a["ceil_mode"]:
            b.refuse("an average pool with ceil_mode that counts its padding", "use count_include_pad=False")
        own = ((rows, rows), (columns, columns))
        batch, channels, height, width = image.sizes
        image = b.call(layers.pad, image, own, sizes=(batch, channels, height + 2 * rows, width + 2 * columns))
        a = a | {"padding": 0}
    return _pool(b, node, image, a, layers.average_pool)


def _pool(b: Builder, node: fx.Node, image: Image, a: dict[str, Any], function: Any) -> Image:
    kernel = b.spatial(image, a["kernel_size"], 1)
    stride = b.spatial(image, a["stride"], 1) if _numbers(a["stride"]) else kernel
    before = b.spatial(image, a["padding"], 0)
    seen = node.meta["val"]
    shape = (seen[0] if isinstance(seen, tuple | list) else seen).shape
    sizes = b.sizes_of(image, image.sizes[1], shape)
    padding: list[Pair] = []
    for size, positions, k, s, p in zip(image.sizes[2:], sizes[2:], kernel, stride, before, strict=True):
        last = (positions - 1) * s + k - size - p
        padding.append(reached_padding(size, k, s, 1, (p, max(last, 0))))
    return b.call(function, image, kernel, stride, tuple(padding), sizes=sizes)


def _numbers(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values] if values is not None else []


def adaptive(largest: bool) -> Rule:
    """Adaptive pools whose windows all have the same size."""

    def rule(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        image = b.map(b.ordered(a["self"], "an adaptive pool"))
        seen = node.meta["val"]
        shape = (seen[0] if isinstance(seen, tuple | list) else seen).shape
        sizes = b.sizes_of(image, image.sizes[1], shape)
        made = _adaptive(b, image, sizes, largest)
        return (made, None) if isinstance(seen, tuple | list) else made

    return rule


def _adaptive(b: Builder, image: Image, sizes: tuple[int, int, int, int], largest: bool) -> Image:
    if sizes[2:] == (1, 1):
        function: Any = layers.global_max_pool if largest else layers.global_average_pool
        return b.call(function, image, sizes=sizes)
    if sizes == image.sizes:
        return image
    if image.sizes[2:] == (1, 1):
        return b.call(layers.enlarge, image, sizes[2:], sizes=sizes)
    axes = list(zip(image.sizes[2:], sizes[2:], strict=True))
    windows = [_windows(size, count) or _windows_of_repeated(size, count, largest) for size, count in axes]
    if None in windows:
        b.refuse(
            f"an adaptive pool of {image.sizes[2:]} to {sizes[2:]}, whose windows are not all of one size",
            "allowed are sizes that divide the map, and 1",
        )
    repeated = tuple(count if _windows(size, count) is None else 1 for size, count in axes)
    if repeated != (1, 1):
        batch, channels, height, width = image.sizes
        wide = (batch, channels, height * repeated[0], width * repeated[1])
        image = b.call(layers.enlarge, image, repeated, sizes=wide)
    (rows, down), (columns, right) = cast(list[Pair], windows)
    function = layers.max_pool if largest else layers.average_pool
    return b.call(function, image, (rows, columns), (down, right), NO_PADDING, sizes=sizes)


def _windows(size: int, count: int) -> Pair | None:
    """Kernel and stride of ``count`` adaptive windows along ``size``; None where they differ."""
    starts = [k * size // count for k in range(count)]
    kernels = {-(-(k + 1) * size // count) - start for k, start in enumerate(starts)}
    strides = {after - before for before, after in pairwise(starts)} or {size}
    return (kernels.pop(), strides.pop()) if len(kernels) == len(strides) == 1 and 0 not in strides else None


def _windows_of_repeated(size: int, count: int, largest: bool) -> Pair | None:
    """Kernel and stride of adaptive windows on values that are repeated ``count`` times each.

    None where there would be fewer windows than values, or a mean would weigh the values of a window unequally.
    """
    reads = [[at // count for at in range(k * size, (k + 1) * size)] for k in range(count)]
    even = all(len({own.count(value) for value in own}) == 1 for own in reads)
    return (size, size) if count > size and (largest or even) else None


def enlarged(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Nearest-neighbour upsampling by whole factors."""
    image = b.map(b.ordered(a.get("input", a.get("self")), "upsampling"))
    sizes = b.sizes_of(image, image.sizes[1], node.meta["val"].shape)
    if sizes[2] % image.sizes[2] or sizes[3] % image.sizes[3]:
        b.refuse(f"upsampling of {image.sizes[2:]} to {sizes[2:]}", "allowed are whole factors")
    _refuse_uneven(b, image, sizes, a["scale_factors"])
    factors = (sizes[2] // image.sizes[2], sizes[3] // image.sizes[3])
    return b.call(layers.enlarge, image, factors, sizes=sizes)


def interpolated(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Linear interpolation to any size."""
    image = b.map(b.ordered(a["input"], "an interpolation"))
    sizes = b.sizes_of(image, image.sizes[1], node.meta["val"].shape)
    _refuse_uneven(b, image, sizes, None if a["align_corners"] else a["scale_factors"])
    return b.call(layers.interpolate, image, sizes[2:], bool(a["align_corners"]), sizes=sizes)


def _refuse_uneven(b: Builder, image: Image, sizes: tuple[int, int, int, int], factors: Any) -> None:
    """Torch samples at the distance that a factor says, the interpreter at that of the two sizes."""
    given = _numbers(factors)
    for size, made, factor in zip(image.sizes[2:], sizes[2:], given * (2 // len(given)) if given else (), strict=False):
        if size > 1 and not math.isclose(size * factor, made):
            b.refuse(
                f"an interpolation of {size} to {made} values by the factor {factor:g}, which is not {made}/{size}",
                "use size=, or recompute_scale_factor=True",
            )


def reduced(kind: str) -> Rule:
    """``mean``, ``sum`` and ``amax`` over height, width or both, for any layout."""

    def rule(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        image = a["self"]
        if not isinstance(image, Image):
            b.refuse(f"{kind} of a constant")
        rank = len(image.layout)
        given = _numbers(a.get("dim")) or list(range(rank))
        dims = sorted({int(dim) % rank for dim in given})
        axes = {piece.axis for dim in dims for piece in image.layout[dim]}
        if not axes <= {Axis.HEIGHT, Axis.WIDTH} or not _covers(image, dims, axes):
            b.refuse(f"{kind} over the dimensions {tuple(dims)}, which are not height and width", "allowed are those")
        made = _over(b, image, axes, kind == "amax")
        layout = [_without(dimension, axes) for dimension in image.layout]
        if not a.get("keepdim", False):
            layout = [dimension for dim, dimension in enumerate(layout) if dim not in dims]
        made = replace(made, layout=tuple(layout))
        if kind == "sum":
            counts = [
                size for axis, size in zip((Axis.HEIGHT, Axis.WIDTH), image.sizes[2:], strict=True) if axis in axes
            ]
            made = scaled(b, made, float(counts[0] * (counts[1] if len(counts) > 1 else 1)) if counts else 1.0, 0.0)
        return made

    return rule


def _covers(image: Image, dims: list[int], axes: set[Axis]) -> bool:
    total = 1
    for dim in dims:
        for piece in image.layout[dim]:
            total *= piece.size
    wanted = 1
    for axis in axes:
        wanted *= image.sizes[axis]
    return total == wanted


def _without(dimension: tuple[Piece, ...], axes: set[Axis]) -> tuple[Piece, ...]:
    return tuple(piece for piece in dimension if piece.axis not in axes)


def _over(b: Builder, image: Image, axes: set[Axis], largest: bool) -> Image:
    """Pool over whole axes."""
    if not axes:
        return image
    image = b.map(image)
    batch, channels, height, width = image.sizes
    sizes = (batch, channels, 1 if Axis.HEIGHT in axes else height, 1 if Axis.WIDTH in axes else width)
    if sizes[2:] == (1, 1):
        function: Any = layers.global_max_pool if largest else layers.global_average_pool
        return b.call(function, image, sizes=sizes)
    kernel = (height // sizes[2], width // sizes[3])
    function = layers.max_pool if largest else layers.average_pool
    return b.call(function, image, kernel, kernel, NO_PADDING, sizes=sizes)


def padded(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Padding with a constant, along the axes that the dimensions map to."""
    if a.get("mode", "constant") != "constant":
        b.refuse(f"padding_mode '{a['mode']}'", "allowed is 'zeros', for nn.ZeroPad2d and F.pad mode='constant'")
    value = float(a.get("value") or 0.0)
    if not abs(value) <= LARGEST:
        if value > 0 or not all("max_pool" in str(user.target) for user in node.users):
            b.refuse(f"padding with {value:g}", f"allowed are numbers up to {LARGEST:g}, and less before a max pool")
        value = -math.inf
    image = b.ordered(a["self"], "padding")
    amounts = [int(v) for v in a["pad"]]
    sides = {Axis.HEIGHT: (0, 0), Axis.WIDTH: (0, 0)}
    for step in range(len(amounts) // 2):
        pair = (amounts[2 * step], amounts[2 * step + 1])
        dim = len(image.layout) - 1 - step
        axis = b.signal_axis(image) if len(image.layout) == 3 and dim == 2 else Axis(dim)
        if pair == (0, 0):
            continue
        if axis not in sides:
            b.refuse(f"zero padding of the {'channels' if dim == 1 else 'batch'}", "use a 1x1 convolution")
        if min(pair) < 0:
            b.refuse(f"negative padding {pair}", "allowed are zeros around; use a convolution without padding")
        sides[axis] = pair
    padding = (sides[Axis.HEIGHT], sides[Axis.WIDTH])
    if padding == NO_PADDING:
        return image
    batch, channels, height, width = image.sizes
    sizes = (batch, channels, height + sum(padding[0]), width + sum(padding[1]))
    return b.call(layers.pad, b.map(image), padding, *((value,) if value else ()), sizes=sizes)


WINDOWS: dict[str, Rule] = {
    **dict.fromkeys(("max_pool1d", "max_pool2d"), max_pool),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool1d_with_indices"), max_pool_with_indices),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), average_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), adaptive(False)),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), adaptive(True)),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), enlarged),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d"), interpolated),
    "mean": reduced("mean"),
    "sum": reduced("sum"),
    "amax": reduced("amax"),
    "pad": padded,
    "constant_pad_nd": padded,
}
