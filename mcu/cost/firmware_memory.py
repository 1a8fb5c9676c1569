"""Offsets of activations in the firmware's arena: aligned to words, not 16 bytes; reshapes, sums, products and
activations are done in place.

The first operators run strip by strip (``mcu.cost.stage``) where that saves more bytes of RAM than their additional
calls take of flash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcu.cost.arena import Buffer
from mcu.cost.planner import best_plan
from mcu.cost.stage import Span, Strips, heights_of, overwritten, spans_of, stages_of
from mcu.cost.stream import Stream
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure, structure_of

ALIGNMENT = 4
PLANS = 8
"""Stages that are planned, those with the lowest bounds."""


@dataclass(frozen=True)
class FirmwarePlan:
    """Position of every activation tensor: ``offsets`` by index, ``total`` bytes in all.

    Attributes:
        strips: of the operators that run strip by strip; the buffers of tensors inside hold some of their rows.
        stream: what a step of a stream computes and keeps; the buffers hold these rows.
    """

    offsets: tuple[int, ...]
    total: int
    strips: Strips | None = None
    stream: Stream | None = None


def plan_memory(model: Structure | Int8Model, by_strips: bool = True, hop: int | None = None) -> FirmwarePlan:
    """Offsets of every activation tensor and the arena's bytes.

    Args:
        by_strips: whether operators may run strip by strip.
        hop: rows by which the window moves on along a stream from run to run; None for windows that have nothing to do
            with each other.

    Raises:
        InputError: if the input is no stream, or the hop is not shorter than it.
    """
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    if hop is not None:
        stream = Stream(structure, hop)
        return replace(_placed(structure, stream.spans(), _roots(structure, None, {})), stream=stream)
    best = _planned(structure, None)
    if not by_strips:
        return best
    least = best.total
    for bound, strips in _bounds(structure)[:PLANS]:
        if bound >= least:
            break
        plan = _planned(structure, strips)
        if plan.total + strips.flash < least:
            best, least = plan, plan.total + strips.flash
    return best


def _planned(structure: Structure, strips: Strips | None) -> FirmwarePlan:
    outputs, in_place = [port.tensor for port in structure.outputs], overwritten(structure)
    spans = spans_of(structure.ops, heights_of(structure), outputs, strips, in_place.items())
    return replace(_placed(structure, spans, _roots(structure, strips, in_place)), strips=strips)


def _placed(structure: Structure, spans: Sequence[Span], roots: list[int]) -> FirmwarePlan:
    kept = sorted(set(roots))
    plan = best_plan(_buffers(structure, roots, kept, spans))
    offsets = dict(zip(kept, plan.offsets, strict=True))
    return FirmwarePlan(tuple(offsets[root] for root in roots), plan.total)


def _roots(structure: Structure, strips: Strips | None, in_place: Mapping[int, int]) -> list[int]:
    """For each tensor the one whose memory it is: itself, unless a reshape made it, or an operator outside of a stage
    that writes over its operand."""
    roots = list(range(len(structure.shapes)))
    for index, op in enumerate(structure.ops):
        if op.kind is Kind.RESHAPE:
            roots[op.output] = roots[op.inputs[0]]
        elif index in in_place and (strips is None or not strips.stage.first <= index < strips.stage.end):
            roots[op.output] = roots[in_place[index]]
    return roots


def _buffers(structure: Structure, roots: list[int], kept: list[int], spans: Sequence[Span]) -> list[Buffer]:
    lives = {root: list(spans[root][1:]) for root in kept}
    for tensor, root in enumerate(roots):
        lives[root] = [min(lives[root][0], spans[tensor][1]), max(lives[root][1], spans[tensor][2])]
    sizes = (_aligned(spans[root][0] * _row_bytes(structure.shapes[root])) for root in kept)
    return [(size, lives[root][0], lives[root][1]) for size, root in zip(sizes, kept, strict=True)]


def _row_bytes(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape[2:] if len(shape) == 4 else shape:
        size *= extent
    return size


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _bounds(structure: Structure) -> list[tuple[int, Strips]]:
    """Stages with the most bytes alive at any step, least first."""
    stages = stages_of(structure)
    count, steps = len(stages.strips), len(structure.ops) + 2
    own = np.ones(len(structure.shapes), np.int64)
    own[[op.output for op in structure.ops if op.kind is Kind.RESHAPE]] = 0
    sizes = stages.spans[..., 0] * np.array([_row_bytes(shape) for shape in structure.shapes]) * own
    at = np.arange(count)[:, None] * steps
    changes = np.bincount((at + stages.spans[..., 1]).ravel(), sizes.ravel(), count * steps)
    changes -= np.bincount((at + stages.spans[..., 2] + 1).ravel(), sizes.ravel(), count * steps)
    bounds = changes.reshape(count, steps).cumsum(1).max(1, initial=0).astype(np.int64)
    return [(int(bounds[index]), stages.strips[index]) for index in np.argsort(bounds, kind="stable")]
