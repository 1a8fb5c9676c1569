"""Channels that come back: groups grow again without changing what the network computes.

A channel that was removed too early, or that rounding took, returns with fresh filters; the layers that read it
start with zero weights on it, so the function is the same and training decides what it is good for
(Chen et al., "Net2Net", ICLR 2016, keep the function with copies instead).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx

from mcu.graph.graph import Graph, Tensor
from pruning.engine.surgery import NEW, Change, layer_of, rebind, resize_layer, rewrite

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
    """Widths that train as fast or faster: next multiples of 8 or 64 channels where they are near, within ``limit``.

    Args:
        graph: says how many channels a unit of width has.
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
    module: fx.GraphModule,
    graph: Graph,
    widths: np.ndarray,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    *,
    idle: bool = False,
) -> Graph:
    """Add channels in place until every group has its width; the network computes the same.

    Args:
        module: traced network without gates.
        graph: its present graph.
        widths: int ``(groups,)``, none below the present width.
        optimizers: their state for new weights is zero.
        idle: whether new channels are zero throughout. Then every gradient on them is zero, too, and they stay so.

    Returns:
        The graph of the wider network.
    """
    if (widths < graph.widths).any():
        raise ValueError(f"widths {widths.tolist()} are below the present {graph.widths.tolist()}")
    change = partial(_extend, optimizers, idle)
    wider = [_widened(tensor, graph.widths, widths) for tensor in graph.tensors]
    for op in graph.ops:
        (_, before), (_, after) = wider[op.inputs[0]], wider[op.output]
        if op.layer:
            resize_layer(layer_of(module, op.layer), before, after, op.kernel, change)
        if op.norm:
            _widen_norm(layer_of(module, op.norm), after, change, idle)
    groups = tuple(replace(g, size=int(width)) for g, width in zip(graph.groups, widths, strict=True))
    grown = replace(graph, tensors=tuple(tensor for tensor, _ in wider), groups=groups)
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


def _widen_norm(norm: Any, after: np.ndarray, change: Change, idle: bool) -> None:
    with torch.no_grad():
        norm.running_mean = _gathered(norm.running_mean, after, 0.0)
        norm.running_var = _gathered(norm.running_var, after, 1.0)
    norm.num_features = len(after)
    if norm.affine:
        change(norm.weight, after, None, 0.0 if idle else float(norm.weight.detach().abs().mean()))
        change(norm.bias, after, None, 0.0)


def _extend(
    optimizers: Sequence[torch.optim.Optimizer],
    idle: bool,
    parameter: torch.Tensor,
    outputs: np.ndarray,
    inputs: np.ndarray | None,
    fresh: float | None,
) -> None:
    """Add rows (``fresh``, or random like the present ones) and, for new inputs, columns of zeros."""

    def grown(tensor: torch.Tensor, row: float | None) -> torch.Tensor:
        larger = _gathered(tensor, outputs, row)
        if inputs is not None:
            larger = _gathered(larger.transpose(0, 1), inputs, 0.0).transpose(0, 1)
        return larger

    rewrite(
        parameter, optimizers, lambda values: grown(values, 0.0 if idle else fresh), lambda state: grown(state, 0.0)
    )


def _gathered(tensor: torch.Tensor, sources: np.ndarray, fresh: float | None) -> torch.Tensor:
    """Rows of ``tensor`` by source; new rows hold ``fresh``, or noise of the tensor's own spread if None."""
    index = torch.as_tensor(np.maximum(sources, 0), device=tensor.device)
    rows = tensor.index_select(0, index).clone()
    new = torch.as_tensor(sources == NEW, device=tensor.device)
    if fresh is not None:
        rows[new] = fresh
    elif bool(new.any()):
        rows[new] = torch.randn(rows[new].shape).to(rows) * float(tensor.float().std(unbiased=False))
    return rows
