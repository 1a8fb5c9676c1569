"""The C functions that hold the calls of a program, from shapes alone: how large they are and what stack they take.

``model_run`` calls the kernels of operators on whole maps, a function of its own those of a run of equal strips. The
compiler keeps places in the arena that later calls need again in registers, which it saves first: with the places of
all arguments its code and its frame follow, within a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from mcu.cost.firmware_memory import FirmwarePlan
from mcu.cost.stage import Part, Turns
from mcu.cost.stream import Move
from mcu.graph.kinds import Kind
from mcu.int8.structure import Structure

MOVE = "concat"
"""The kernel that moves rows which the next strip needs again."""

FAR = 1024
"""Bytes: an offset in the arena that takes the Cortex-M0+ more instructions."""

Place = tuple[int, int]
"""Bytes from the start of the arena, and by how many more in every turn of a loop."""


@dataclass(frozen=True)
class CallForm:
    """A call: its kernel, and the places of its arguments."""

    kernel: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Function:
    """A C function of calls; ``once`` and ``looped`` are how many functions of strips it calls, ``is_loop`` whether it
    is told the number of its strip."""

    calls: tuple[CallForm, ...]
    is_loop: bool = False
    once: int = 0
    looped: int = 0

    def counts(self) -> tuple[int, ...]:
        """What its code is made of: itself, a strip's number, calls, arguments beyond two, places, those that are far
        from the arena's start, those that move on, functions it calls once and in a loop."""
        places = [place for call in self.calls for place in call.places]
        more = sum(len(call.places) - 2 for call in self.calls)
        moving = sum(step > 0 for _, step in places)
        starts = {at for at, _ in places}
        far = sum(at >= FAR for at in starts)
        return 1, int(self.is_loop), len(self.calls), more, len(starts), far, moving, self.once, self.looped

    @property
    def saved(self) -> int:
        """About the registers that it saves, its return address among them: the arena's address, places that are needed
        again at the same time, and for those that move on two. What ends in its only call needs none."""
        if len(self.calls) + self.once == 1 and not self.looped:
            return 0
        calls = [{place for place in call.places if not place[1]} for call in self.calls]
        first: dict[Place, int] = {}
        last: dict[Place, int] = {}
        for number, places in enumerate(calls):
            first |= {place: number for place in places if place not in first}
            last |= dict.fromkeys(places, number)
        held = [sum(first[place] <= at < last[place] for place in first) for at in range(len(calls))]
        moving = any(step for call in self.calls for _, step in call.places)
        return 2 + max(held, default=0) + 2 * moving + bool(self.looped)


def functions_of(structure: Structure, plan: FirmwarePlan, kernels: Sequence[str]) -> list[Function]:
    """``model_run``, then those of strips.

    Args:
        kernels: of every operator, any text for those that need none.
    """
    strips, stream = plan.strips, plan.stream
    inside = range(0) if strips is None else range(strips.stage.first, strips.stage.end)
    whole: list[CallForm] = []
    for index, op in enumerate(structure.ops):
        if stream is not None and index in stream.parts:
            if op.output in stream.moves:
                whole.append(_moved(structure, plan, op.output, stream.moves[op.output]))
            for part in stream.parts[index]:
                whole += _part(structure, plan, kernels, part, (0,) * len(op.inputs), 0)
        elif index not in inside:
            whole += _whole(structure, plan, kernels, index)
    if stream is not None and stream.input in stream.moves:
        whole.append(_moved(structure, plan, stream.input, stream.moves[stream.input]))
    runs = [] if strips is None else strips.turns
    of_strips = [Function(tuple(_strip(structure, plan, kernels, turns)), turns.times > 1) for turns in runs]
    looped = sum(function.is_loop for function in of_strips)
    return [Function(tuple(whole), False, len(of_strips) - looped, looped), *of_strips]


def _whole(structure: Structure, plan: FirmwarePlan, kernels: Sequence[str], index: int) -> Iterator[CallForm]:
    op = structure.ops[index]
    if op.kind is not Kind.RESHAPE:
        yield from _calls(
            structure, kernels, index, [(plan.offsets[t], 0) for t in op.inputs], (plan.offsets[op.output], 0)
        )


def _strip(structure: Structure, plan: FirmwarePlan, kernels: Sequence[str], turns: Turns) -> Iterator[CallForm]:
    for part, reads, write in zip(turns.parts, turns.read_steps, turns.write_steps, strict=True):
        if part.kept:
            yield _moved(structure, plan, structure.ops[part.op].output, Move(part.kept, part.shift, 0))
        yield from _part(structure, plan, kernels, part, reads, write)


def _moved(structure: Structure, plan: FirmwarePlan, tensor: int, move: Move) -> CallForm:
    start, row = plan.offsets[tensor], _row(structure, tensor)
    return CallForm(MOVE, ((start + move.source * row, 0), (start + move.target * row, 0)))


def _part(
    structure: Structure, plan: FirmwarePlan, kernels: Sequence[str], part: Part, reads: Sequence[int], write: int
) -> Iterator[CallForm]:
    op = structure.ops[part.op]
    start, row = plan.offsets[op.output], _row(structure, op.output)
    inputs = [
        (plan.offsets[tensor] + at * _row(structure, tensor), step * _row(structure, tensor))
        for tensor, at, step in zip(op.inputs, part.read_at, reads, strict=True)
    ]
    yield from _calls(structure, kernels, part.op, inputs, (start + part.write_at * row, write * row))


def _calls(
    structure: Structure, kernels: Sequence[str], index: int, inputs: Sequence[Place], output: Place
) -> Iterator[CallForm]:
    op, (start, step) = structure.ops[index], output
    if op.kind is not Kind.CONCAT:
        yield CallForm(kernels[index], (*inputs, output))
        return
    for tensor, place in zip(op.inputs, inputs, strict=True):
        yield CallForm(kernels[index], (place, (start, step)))
        start += structure.shapes[tensor][-1]


def _row(structure: Structure, tensor: int) -> int:
    return prod(structure.shapes[tensor][2:])
