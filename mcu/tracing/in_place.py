"""In-place operations: what they change for every other tensor that shares its memory.

The capture knows which tensors share memory, and where in it each value lies: it knows that ``contiguous()`` copies
behind a permutation, and not elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from mcu.tracing.builder import Builder, Image, Rule, Value
from mcu.tracing.capture import arguments
from mcu.tracing.layout import plain
from mcu.tracing.views import side_by_side


def in_place(rule: Rule) -> Rule:
    """The rule of an operator's in-place form."""

    def changing(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        changed = node.all_input_nodes[0]
        before, value = b.values[changed], rule(b, node, a)
        if isinstance(value, Image) and isinstance(before, Image) and value.node is before.node:
            return value  # another view of what it was
        nodes = list(b.captured.graph.nodes)
        at = nodes.index(node)
        later = {read for user in nodes[at + 1 :] for read in user.all_input_nodes}
        known = [other for other in nodes[:at] if other in later and other in b.values]
        for other in _sharing(known, changed):
            b.values[other] = _after(b, other, changed, before, value)
        for dropout in _sharing(filter(_is_idle_dropout, nodes[:at]), changed):
            if any(_sharing(known, dropout.all_input_nodes[0])):
                b.refuse(
                    "an in-place operation behind dropout on a tensor that is read again: torch changes what is read "
                    "again in evaluation mode alone",
                    "write it without in-place forms",
                )
        return value

    return changing


def _is_idle_dropout(node: fx.Node) -> bool:
    """Dropout that is off gives its input itself; captured, it is a copy."""
    if "dropout.default" not in str(node.target):
        return False
    given = arguments(node)
    return not (given["train"] and given["p"])


def _sharing(nodes: Iterable[fx.Node], changed: fx.Node) -> Iterator[fx.Node]:
    """Those of some nodes that share memory with another."""
    memory = _memory(changed.meta["val"])
    return (node for node in nodes if memory & _memory(node.meta.get("val")))


def _memory(seen: Any) -> set[int]:
    """The memory of a tensor, or of several."""
    tensors = seen if isinstance(seen, list | tuple) else [seen]
    return {tensor.untyped_storage()._cdata for tensor in tensors if isinstance(tensor, torch.Tensor)}


def _after(b: Builder, other: fx.Node, changed: fx.Node, before: Value, value: Value) -> Value:
    """What another tensor is once the changed one has its new value."""
    present, seen, theirs = b.values[other], changed.meta["val"], other.meta["val"]
    if isinstance(present, Image) and isinstance(before, Image) and isinstance(value, Image):
        if _places(seen) == _places(theirs):
            return value
        alike = (value.sizes, value.layout, value.order) == (before.sizes, before.layout, before.order)
        if alike and present.node is before.node:
            return replace(present, node=value.node, row=value.row)
        found = _by_channels(b, present, theirs, value, seen)
        if found is not None:
            return found
    return b.refuse("an in-place operation on a part of a tensor that is read again", "write it without in-place forms")


def _places(seen: torch.Tensor) -> tuple[Any, ...]:
    return seen.shape, seen.stride(), seen.storage_offset()


def _by_channels(b: Builder, present: Image, theirs: torch.Tensor, value: Image, seen: torch.Tensor) -> Image | None:
    """Another tensor with those of its channels changed that it shares; None where it shares parts of channels."""
    places, changed_places = _offsets(theirs), _offsets(seen)
    if not np.intersect1d(places, changed_places).size:
        return present
    if any(image.layout != plain(image.sizes, min(4, len(image.layout))) for image in (present, value)):
        return None
    fresh = {places.tobytes(): channel for channel, places in enumerate(_of_channels(changed_places))}
    taken = [fresh.get(own.tobytes()) for own in _of_channels(places)]
    kept = [channel for channel, new in enumerate(taken) if new is None]
    used = sorted({new for new in taken if new is not None})
    if (kept and np.intersect1d(_of_channels(places)[kept], changed_places).size) or not used:
        return None
    parts = [_channels(b, value, used), *([_channels(b, present, kept)] if kept else [])]
    made = side_by_side(b, [b.map(part) for part in parts]) if kept else parts[0]
    order = [len(used) + kept.index(own) if new is None else used.index(new) for own, new in enumerate(taken)]
    joined = replace(made, layout=plain(made.sizes, len(present.layout)))
    return _channels(b, joined, order)


def _channels(b: Builder, image: Image, channels: list[int]) -> Image:
    sizes = (image.sizes[0], len(channels), *image.sizes[2:])
    return b.gathered(image, channels, plain(sizes, len(image.layout)))


def _offsets(seen: torch.Tensor) -> np.ndarray[Any, Any]:
    """Where in its memory every value of a tensor lies."""
    found = np.array(seen.storage_offset())
    for size, stride in zip(seen.shape, seen.stride(), strict=True):
        found = np.add.outer(found, np.arange(size) * stride)
    return found


def _of_channels(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(np.moveaxis(places, 1, 0))
