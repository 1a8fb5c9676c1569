"""Rules of parts: slices, chunks and splits, picked channels, channels in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import fx

from mcu.graph import layers
from mcu.tracing.builder import Builder, Constant, Image, Rule, Value
from mcu.tracing.elementwise import product
from mcu.tracing.layout import Axis, Piece, permuted, reshaped, selected_channels
from mcu.tracing.views import side_by_side


def part(b: Builder, image: Image, dim: int, positions: Sequence[int]) -> Image:
    """These positions of a dimension, in this order."""
    dimension, count = image.layout[dim], _size(image, dim)
    if list(positions) == list(range(count)):
        return image
    if not positions:
        b.refuse("a part of a tensor with nothing in it", "take at least one position")
    axes = {piece.axis for piece in dimension}
    if not dimension and dim == 1 and image.sizes[1] == 1:  # the only channel
        return b.gathered(
            image, [0] * len(positions), (image.layout[0], (Piece(Axis.CHANNELS, len(positions)),), *image.layout[2:])
        )
    if not dimension:
        b.refuse(f"one position repeated {len(positions)} times", "leave the repeating out")
    if axes == {Axis.BATCH}:
        b.refuse("a part of the batch", "on a microcontroller there is one example; treat all alike")
    if axes == {Axis.CHANNELS}:
        chosen = selected_channels(image.layout, dim, positions)
        if chosen is not None:
            return b.gathered(image, *chosen)
    if len(dimension) == 1 and dimension[0].size == image.sizes[dimension[0].axis]:
        return _cut(b, image, dim, positions)
    return cast(
        Image,
        b.refuse(
            "a part of a dimension that several axes share, or that is part of one",
            "slice the feature map before the view or permute",
        ),
    )


def _size(image: Image, dim: int) -> int:
    count = 1
    for piece in image.layout[dim]:
        count *= piece.size
    return count


def _cut(b: Builder, image: Image, dim: int, positions: Sequence[int]) -> Image:
    """Rows or columns, evenly apart."""
    steps = {after - before for before, after in pairwise(positions)} or {1}
    step = min(steps)
    if len(steps) > 1 or step < 1:
        b.refuse(f"the rows or columns {list(positions)} of a feature map", "allowed are such that are evenly apart")
    axis = image.layout[dim][0].axis
    at = axis - Axis.HEIGHT
    begin, count, steps_of = [0, 0], list(image.sizes[2:]), [1, 1]
    begin[at], count[at], steps_of[at] = positions[0], len(positions), step
    source = b.map(image)
    if source.node.target is layers.cut:
        first, _, apart = cast(Any, source.node.args[1:])
        begin = [first[k] + apart[k] * begin[k] for k in (0, 1)]
        steps_of = [apart[k] * steps_of[k] for k in (0, 1)]
        source = replace(source, node=cast(fx.Node, source.node.args[0]))
    sizes = (*image.sizes[:2], *count)
    made = b.call(layers.cut, source, tuple(begin), tuple(count), tuple(steps_of), sizes=cast(Any, sizes))
    piece = (Piece(axis, len(positions)),) if len(positions) > 1 else ()
    return replace(made, layout=(*image.layout[:dim], piece, *image.layout[dim + 1 :]))


def _image(b: Builder, a: dict[str, Any]) -> tuple[Image, int]:
    """The tensor and the dimension that is taken apart."""
    value = a.get("self", a.get("input"))
    if not isinstance(value, Image):
        b.refuse("a part of a constant")
    image = cast(Image, value)
    return image, int(a.get("dim", 0)) % len(image.layout)


def _without(image: Image, dim: int) -> Image:
    return replace(image, layout=(*image.layout[:dim], *image.layout[dim + 1 :]))


def selected(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """One position of a dimension, which goes."""
    image, dim = _image(b, a)
    return _without(part(b, image, dim, [int(a["index"]) % _size(image, dim)]), dim)


def sliced(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``x[:, a:b:c]``."""
    image, dim = _image(b, a)
    ends = (None if a[name] is None else int(a[name]) for name in ("start", "end", "step"))
    return part(b, image, dim, range(_size(image, dim))[slice(*ends)])


def narrowed(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``x.narrow(dim, start, length)``."""
    image, dim = _image(b, a)
    start = int(a["start"]) % _size(image, dim)
    return part(b, image, dim, range(start, start + int(a["length"])))


def split(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``chunk``, ``split``, ``tensor_split``: parts one after the other."""
    image, dim = _image(b, a)
    found, start = [], 0
    for seen in node.meta["val"]:
        size = int(seen.shape[dim])
        found.append(part(b, image, dim, range(start, start + size)) if size else None)  # of one that nothing reads
        start += size
    return tuple(found)


def unbound(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Every position of a dimension by itself."""
    image, dim = _image(b, a)
    return tuple(_without(part(b, image, dim, [position]), dim) for position in range(_size(image, dim)))


def picked(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``x[:, [2, 0, 1]]``, ``index_select``."""
    image, dim = _image(b, a)
    index = a.get("index")
    if "indices" in a:
        given = [(number, each) for number, each in enumerate(a["indices"]) if each is not None]
        dim, index = given[0] if len(given) == 1 else (0, None)
    tensor = index.tensor if isinstance(index, Constant) else None
    if tensor is None or tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype is torch.bool:
        b.refuse("an index that is not a list of positions along one dimension", "use constant positions along one")
    size = _size(image, dim)
    return part(b, image, dim, [int(position) % size for position in cast(torch.Tensor, tensor)])


def flipped(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Channels in reverse order."""
    image, _ = _image(b, a)
    for dim in (int(dim) % len(image.layout) for dim in a["dims"]):
        image = part(b, image, dim, range(_size(image, dim))[::-1])
    return image


def shuffled(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Channels of equal parts in turn."""
    image = b.ordered(_image(b, a)[0], "a shuffle")
    batch, channels, *rest = node.meta["val"].shape
    groups = int(a["groups"])
    apart = reshaped(image.layout, (batch, groups, channels // groups, *rest))
    assert apart is not None
    turned = reshaped(permuted(apart, (0, 2, 1, *range(3, len(apart)))), (batch, channels, *rest))
    assert turned is not None
    return replace(image, layout=turned)


def unshuffled(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``pixel_unshuffle``: slices side by side."""
    image, factor = b.image(_image(b, a)[0], "a pixel unshuffle"), int(a["downscale_factor"])
    if len(image.layout) != 4:
        b.refuse("a pixel unshuffle of what is no image")
    parts = [
        part(b, part(b, image, 2, range(down, image.sizes[2], factor)), 3, range(right, image.sizes[3], factor))
        for down in range(factor)
        for right in range(factor)
    ]
    if len(parts) == 1:
        return image
    made = side_by_side(b, parts)
    channels, places = image.sizes[1], factor * factor
    order = tuple(place * channels + channel for channel in range(channels) for place in range(places))
    return replace(made, order=order)


def gated_half(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """GLU: the first half of the channels times the sigmoid of the second."""
    image, dim = _image(b, a)
    half = _size(image, dim) // 2
    values, gate = (part(b, image, dim, range(start, start + half)) for start in (0, half))
    return product(b, values, b.call(torch.sigmoid, gate))


PARTS: dict[str, Rule] = {
    "select": selected,
    "slice": sliced,
    "narrow": narrowed,
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"), split),
    "unbind": unbound,
    **dict.fromkeys(("index", "index_select"), picked),
    "flip": flipped,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), shuffled),
    "pixel_unshuffle": unshuffled,
    "glu": gated_half,
}
