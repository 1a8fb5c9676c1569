"""Rules for operators that move no value: views, permutations, concatenation along the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import fx

from mcu.graph import layers
from mcu.tracing.builder import Builder, Image, Rule, Value
from mcu.tracing.layout import flattened, permuted, plain, reshaped


def viewed(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``view`` and ``reshape``."""
    image = _image(b, a)
    layout = reshaped(image.layout, node.meta["val"].shape)
    if layout is None:
        b.refuse("a reshape that splits an axis unevenly", "leave it out")
    assert layout is not None
    if layout[0] != plain(image.sizes, 1)[0]:
        b.refuse("a reshape that mixes the examples of a batch", "keep the batch as the first dimension")
    return replace(image, layout=layout)


def _image(b: Builder, a: dict[str, Any]) -> Image:
    value = a["self"]
    if not isinstance(value, Image):
        b.refuse("a view of a constant")
    return cast(Image, value)


def turned(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``permute`` and ``transpose``."""
    image = _image(b, a)
    rank = len(image.layout)
    if len(a) == 1:  # mT
        order = [*range(rank - 2), rank - 1, rank - 2]
    elif "dims" in a:
        order = [int(dim) % rank for dim in a["dims"]]
    else:
        order = list(range(rank))
        first, second = (int(cast(int, a.get(f"dim{k}", a.get(f"axis{k}")))) % rank for k in (0, 1))
        order[first], order[second] = order[second], order[first]
    return replace(image, layout=permuted(image.layout, order))


def moved(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``movedim``."""
    image = _image(b, a)
    rank = len(image.layout)
    given = (a[name] if isinstance(a[name], list | tuple) else [a[name]] for name in ("source", "destination"))
    sources, targets = ([int(d) % rank for d in dims] for dims in given)
    order = [dim for dim in range(rank) if dim not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return replace(image, layout=permuted(image.layout, order))


def expanded(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``expand`` along dimensions of size 1: left to the multiplication or addition that reads it."""
    image = _image(b, a)
    shape, seen = tuple(node.meta["val"].shape), tuple(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
    if shape != seen and any(user.target not in _BROADCASTING for user in node.users):
        b.refuse(f"a tensor repeated to {shape[1:]}", "leave it out: the multiplication or addition broadcasts")
    return image


_BROADCASTING = (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor)


def concatenated(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Concatenation along the channels."""
    parts = a["tensors"]
    if not all(isinstance(part, Image) for part in parts):
        b.refuse("cat with a constant", "allowed are tensors that depend on the input")
    images = cast(list[Image], parts)
    rank = len(images[0].layout)
    if int(a.get("dim", 0)) % rank != 1:
        b.refuse(f"cat along dimension {a.get('dim', 0)}", "allowed is 1 (channels)")
    if len(images) == 1:
        return images[0]
    maps = {image.sizes[2:] for image in images}
    flat = rank == 2 and all(image.layout == flattened(image.sizes) for image in images)
    if flat and len(maps) > 1:
        b.refuse(
            f"cat of flattened maps of different sizes, {sorted(maps)}",
            "pool them to one size, or to 1, before, or give each a dense layer and add what these give",
        )
    if not flat:
        images = [b.ordered(image, "cat") for image in images]
    if any(image.row != images[0].row for image in images):
        images = [b.map(image) for image in images]
    made = side_by_side(b, images)
    return replace(made, layout=flattened(made.sizes) if flat else plain(made.sizes, rank))


def side_by_side(b: Builder, parts: Sequence[Image]) -> Image:
    """Channels of several images one after the other."""
    batch, _, height, width = parts[0].sizes
    sizes = (batch, sum(image.sizes[1] for image in parts), height, width)
    order: list[int] = []
    for image in parts:
        order += [len(order) + channel for channel in image.stored]
    made = b.call(
        layers.concatenate, replace(parts[0], node=cast(Any, tuple(image.node for image in parts))), sizes=sizes
    )
    return replace(made, order=None if order == sorted(order) else tuple(order), row=parts[0].row)


VIEWS: dict[str, Rule] = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view", "view_as", "reshape_as"),
        viewed,
    ),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "mT"), turned),
    "movedim": moved,
    **dict.fromkeys(("expand", "expand_as"), expanded),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
}
