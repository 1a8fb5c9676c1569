"""How many steps the program of a model has, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcu.cost.firmware_memory import FirmwarePlan
from mcu.cost.stage import Turns
from mcu.graph.kinds import Kind
from mcu.int8.structure import OpForm, Structure

MOVE, STRIPS = "concat", "strips"
"""The kernels that move rows which the next strip needs again, and that repeat steps."""


@dataclass(frozen=True)
class Steps:
    """Those of one table: a step is a kernel call.

    Attributes:
        kernels: that they name.
        count: how many there are.
        moves: how many of them are at other places in every turn.
    """

    kernels: frozenset[str]
    count: int
    moves: int = 0


def tables_of(structure: Structure, plan: FirmwarePlan, kernels: Sequence[str]) -> list[Steps]:
    """The steps of the program, then those of every loop over strips.

    Args:
        kernels: of every operator, any text for those that need none.
    """
    chain, stream = plan.strips, plan.stream
    once: list[str] = []
    for index, op in enumerate(structure.ops):
        if stream is not None and index in stream.parts:
            once += [MOVE] * (op.output in stream.moves) + _calls(op, kernels[index]) * len(stream.parts[index])
        elif chain is None or index not in chain.inside:
            once += _calls(op, kernels[index])
    if stream is not None and stream.input in stream.moves:
        once.append(MOVE)
    loops: list[Steps] = []
    for turns in (turns for strips in (chain.links if chain else ()) for turns in strips.turns):
        steps = list(_strip(structure, turns, kernels))
        if turns.times == 1:
            once += [kernel for kernel, _ in steps]
        else:
            once.append(STRIPS)
            loops.append(Steps(frozenset(name for name, _ in steps), len(steps), sum(moves for _, moves in steps)))
    return [Steps(frozenset(once), len(once)), *loops]


def _calls(op: OpForm, kernel: str) -> list[str]:
    return [kernel] * {Kind.RESHAPE: 0, Kind.CONCAT: len(op.inputs)}.get(op.kind, 1)


def _strip(structure: Structure, turns: Turns, kernels: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The kernels of a strip, and whether they are at other places in every turn."""
    for part, reads, write in zip(turns.parts, turns.read_steps, turns.write_steps, strict=True):
        if part.kept:
            yield MOVE, False
        op = structure.ops[part.op]
        sources = [[read] for read in reads] if op.kind is Kind.CONCAT else [reads]
        for kernel, own in zip(_calls(op, kernels[part.op]), sources, strict=True):
            yield kernel, any(own) or write > 0
