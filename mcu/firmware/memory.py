"""Offsets of activations in the firmware's arena: aligned to words, not 16 bytes; a reshape is done in place."""

from __future__ import annotations

from mcu.cost.arena import Buffer, Plan
from mcu.cost.planner import best_plan
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure, structure_of

ALIGNMENT = 4


def plan_memory(model: Structure | Int8Model) -> Plan:
    """Offsets of every activation tensor and the arena's bytes."""
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    roots = _roots(structure)
    kept = sorted(set(roots))
    buffers = _buffers(structure, roots, kept)
    plan = best_plan(buffers)
    offsets = dict(zip(kept, plan.offsets, strict=True))
    return Plan(tuple(offsets[root] for root in roots), plan.total)


def _roots(structure: Structure) -> list[int]:
    """For each tensor the one whose memory it is: itself, unless a reshape made it."""
    roots = list(range(len(structure.shapes)))
    for op in structure.ops:
        if op.kind is Kind.RESHAPE:
            roots[op.output] = roots[op.inputs[0]]
    return roots


def _buffers(structure: Structure, roots: list[int], kept: list[int]) -> list[Buffer]:
    spans: dict[int, list[int]] = {roots[port.tensor]: [0, 0] for port in structure.inputs}
    for step, op in enumerate(structure.ops, 1):
        spans.setdefault(roots[op.output], [step, step])
        for tensor in (*op.inputs, op.output):
            spans[roots[tensor]][1] = step
    for port in structure.outputs:
        spans[roots[port.tensor]][1] = len(structure.ops)
    return [(_aligned_bytes(structure.shapes[root]), spans[root][0], spans[root][1]) for root in kept]


def _aligned_bytes(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return -(-size // ALIGNMENT) * ALIGNMENT
