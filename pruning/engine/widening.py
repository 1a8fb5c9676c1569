"""Adding channels again: groups grow without changing what the network computes.

A channel that was removed too early, or by rounding, is added with newly initialised filters; the layers that read it
start with zero weights for it, so the function does not change (Chen et al., "Net2Net", ICLR 2016, copy channels
instead).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.graph.graph import Graph, Tensor
from mcu.graph.kinds import Kind
from pruning.engine.rewriting import ALONE, Rewriter
from pruning.engine.surgery import (
    NEW,
    Change,
    first_uses,
    kept_channels,
    layer_of,
    rebind,
    renumber_gathers,
    resize_layer,
)

UNIT = 8
NEAR, OF = 2, 12
"""Batch normalisation and convolutions on CPUs are up to twice as slow at widths that are no multiple of 8.

Two channels more, and one more for every 12 there are, cost less.
"""

WIDE, WIDE_UNIT, WIDE_OF = 128, 64, 8
"""From 128 channels on, bfloat16 convolutions are fastest at multiples of 64: 256 channels cost less than 232 to 248.

An eighth more costs less.
"""


def even_widths(graph: Graph, widths: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Widths that train as fast or faster: rounded up to a nearby multiple of 8 or 64 channels, within ``limit``.

    Args:
        graph: gives the channels per unit of width.
        widths, limit: int ``(groups,)``.

    Returns:
        int64 ``(groups,)``, none below ``widths``.
    """
    each = np.array([group.channels for group in graph.groups], dtype=np.int64)
    channels = widths * each
    missing = -channels % UNIT
    missing = np.where(missing <= NEAR + channels // OF, missing, 0)
    to_wide = -channels % WIDE_UNIT
    missing = np.where((channels >= WIDE) & (to_wide <= channels // WIDE_OF), to_wide, missing)
    more = np.where(missing % each == 0, missing // each, 0)
    wider: np.ndarray = np.maximum(widths, np.minimum(widths + more, limit))
    return wider


def widen(
    module: nn.Module,
    graph: Graph,
    widths: np.ndarray,
    write: Rewriter = ALONE,
    *,
    idle: bool = False,
    generator: torch.Generator | None = None,
) -> Graph:
    """Add channels in place until every group has its width; the network computes the same.

    Args:
        module: traced network without gates.
        graph: its present graph.
        widths: int ``(groups,)``, none below the current width.
        write: adds rows and columns to the parameters, and zeros to their optimiser state.
        generator: for the random new filters; torch's default if None.
        idle: whether new channels are zero. Then their gradients are zero, too, and they stay zero.

    Returns:
        The graph of the wider network.
    """
    if (widths < graph.widths).any():
        raise ValueError(f"widths {widths.tolist()} are below the current {graph.widths.tolist()}")
    change = partial(_extend, write, idle, generator)
    wider = [_widened(tensor, graph.widths, widths) for tensor in graph.tensors]
    for op, layer, norm in first_uses(graph):
        (_, before), (_, after) = wider[op.inputs[0]], wider[op.output]
        if layer:
            resize_layer(layer_of(module, layer), before, after, op.kernel, change)
        if norm:
            _widen_norm(layer_of(module, norm), after, change, idle)
    groups = tuple(replace(g, size=int(width)) for g, width in zip(graph.groups, widths, strict=True))
    ops = tuple(
        replace(op, order=_wider_order(op.order, graph.tensors[op.inputs[0]], wider[op.inputs[0]], wider[op.output]))
        if op.kind is Kind.GATHER
        else op
        for op in graph.ops
    )
    grown = replace(graph, tensors=tuple(tensor for tensor, _ in wider), groups=groups, ops=ops)
    renumber_gathers(module, grown)
    rebind(module, grown)
    return grown


def _widened(tensor: Tensor, present: np.ndarray, widths: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """The tensor with new members behind each block of a group, and where each channel comes from (or ``NEW``)."""
    groups: list[int] = []
    members: list[int] = []
    sources: list[int] = []
    count, position = tensor.channels, 0
    while position < count:
        group, member = int(tensor.groups[position]), int(tensor.members[position])
        end = position + 1
        while group >= 0 and end < count and (tensor.groups[end], tensor.members[end]) == (group, member):
            end += 1
        repeat = end - position
        groups += [group] * repeat
        members += [member] * repeat
        sources += range(position, end)
        if group >= 0 and member == present[group] - 1:
            for new in range(int(present[group]), int(widths[group])):
                groups += [group] * repeat
                members += [new] * repeat
                sources += [NEW] * repeat
        position = end
    return replace(tensor, groups=np.array(groups), members=np.array(members)), np.array(sources)


def _wider_order(
    order: tuple[int, ...], source: Tensor, inputs: tuple[Tensor, np.ndarray], outputs: tuple[Tensor, np.ndarray]
) -> tuple[int, ...]:
    """The channels that a gather reads: those of before, and each new one from the run that its neighbours are from."""
    (wide, before), (made, after) = inputs, outputs
    place = {int(old): new for new, old in enumerate(before) if old != NEW}
    found: list[int] = []
    neighbours: list[int] = []
    for channel, old in enumerate(after.tolist()):
        start = _start_of_run(made, channel)
        if old != NEW:
            neighbours = [*(neighbours if channel > start else []), order[old]]
            found.append(place[order[old]])
            continue
        beside = place[neighbours[channel - start]]
        at = beside
        while (wide.groups[at], wide.members[at]) != (made.groups[channel], made.members[channel]):
            at += 1
        found.append(at + beside - _start_of_run(wide, beside))
    return tuple(found)


def _start_of_run(tensor: Tensor, channel: int) -> int:
    """The first of neighbouring channels that are one and the same member."""
    unit = tensor.groups[channel], tensor.members[channel]
    while channel and (tensor.groups[channel - 1], tensor.members[channel - 1]) == unit:
        channel -= 1
    return channel


def _widen_norm(norm: Any, after: np.ndarray, change: Change, idle: bool) -> None:
    with torch.no_grad():
        norm.running_mean = _gathered(norm.running_mean, after, 0.0)
        norm.running_var = _gathered(norm.running_var, after, 1.0)
    norm.num_features = len(after)
    if norm.affine:
        change(norm.weight, after, None, 0.0 if idle else float(norm.weight.detach().abs().mean()))
        change(norm.bias, after, None, 0.0)


def _extend(
    write: Rewriter,
    idle: bool,
    generator: torch.Generator | None,
    parameter: torch.Tensor,
    outputs: np.ndarray,
    inputs: np.ndarray | None,
    fresh: float | None,
) -> None:
    """Add rows (``fresh``, or random like the present ones) and, for new inputs, columns of zeros."""

    def grown(tensor: torch.Tensor, row: float | None) -> torch.Tensor:
        larger = _gathered(tensor, outputs, row, generator)
        if inputs is not None:
            larger = _gathered(larger.transpose(0, 1), inputs, 0.0).transpose(0, 1)
        return larger

    write(parameter, lambda values: grown(values, 0.0 if idle else fresh), lambda state: grown(state, 0.0))


def _gathered(
    tensor: torch.Tensor, sources: np.ndarray, fresh: float | None, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Rows of ``tensor`` by source; new rows hold ``fresh``, or noise of the tensor's own spread if None."""
    index = torch.as_tensor(np.maximum(sources, 0), device=tensor.device)
    rows = tensor.index_select(0, index).clone()
    new = torch.as_tensor(sources == NEW, device=tensor.device)
    if fresh is not None:
        rows[new] = fresh
    elif bool(new.any()):
        rows[new] = torch.randn(rows[new].shape, generator=generator).to(rows) * float(
            tensor.float().std(unbiased=False)
        )
    return rows


def idle_is_zero(module: nn.Module, graph: Graph, widths: np.ndarray) -> bool:
    """Whether all weights of the idle members of each group (from its width on) are zero, as made by ``widen``."""
    used = [kept_channels(tensor, [np.arange(width) for width in widths]) for tensor in graph.tensors]
    for op in graph.ops:
        rest = np.setdiff1d(np.arange(graph.tensors[op.output].channels), used[op.output])
        for path in filter(None, (op.layer, op.norm)):
            layer = layer_of(module, path)
            for tensor in (layer.weight, layer.bias):
                if len(rest) and tensor is not None and bool(tensor.detach()[torch.as_tensor(rest)].any()):
                    return False
    return True
