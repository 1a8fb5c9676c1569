"""Offsets of activations in the firmware's arena: aligned to words, not 16 bytes; reshapes, sums, products and
activations are done in place.

Stages of operators can run strip by strip (``mcu.cost.chain``). Which do is said by a plan, which is made once and
handed on to what predicts, writes and measures a program; ``mcu.firmware.planning`` chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcu.cost.arena import Buffer
from mcu.cost.chain import Chain, chain_with, chains_of, row_bytes, spans_of
from mcu.cost.planner import best_plan
from mcu.cost.stage import Span, Stage, heights_of, overwritten
from mcu.cost.stream import Stream
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure, structure_of

ALIGNMENT = 4


@dataclass(frozen=True)
class FirmwarePlan:
    """Position of every activation tensor: ``offsets`` by index, ``total`` bytes in all.

    Attributes:
        strips: of the operators that run strip by strip; the buffers of tensors inside hold some of their rows.
        stream: what a step of a stream computes and keeps; the buffers hold these rows.
    """

    offsets: tuple[int, ...]
    total: int
    strips: Chain | None = None
    stream: Stream | None = None

    @property
    def size(self) -> int:
        """Bytes of the arena, and about those of flash that stages take."""
        return self.total + (self.strips.flash if self.strips else 0)


def plan_memory(
    model: Structure | Int8Model, by_strips: bool = True, hop: int | None = None, several: bool = True
) -> FirmwarePlan:
    """The plan whose arena and additional flash are least together.

    Args:
        by_strips: whether operators may run strip by strip.
        hop: rows by which the window moves on along a stream from run to run; None for windows that have nothing to do
            with each other.
        several: whether more than one stage may run strip by strip.

    Raises:
        InputError: if the input is no stream, or the hop is not shorter than it.
    """
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    if hop is not None:
        stream = Stream(structure, hop)
        return replace(_placed(structure, stream.spans(), _roots(structure, None, {})), stream=stream)
    if not by_strips:
        return _planned(structure, None)
    chains = chains_of(structure, several)
    floors = [bound + (chain.flash if chain else 0) for bound, chain in chains]
    found: list[tuple[int, int, FirmwarePlan]] = []
    for place in sorted(range(len(chains)), key=floors.__getitem__):
        if found and min(found)[0] < floors[place]:
            break
        plan = _planned(structure, chains[place][1])
        found.append((plan.size, place, plan))
    return min(found)[2]


def plans_of(structure: Structure, most: int | None = None) -> list[FirmwarePlan]:
    """Whole maps, then the chains of stages that could be worth their additional calls, the smallest arenas first.

    Args:
        most: bytes of an arena above which a plan is not wanted; whole maps are there in any case.
    """
    (_, none), *chains = chains_of(structure)
    whole = _planned(structure, none)
    found = [
        _planned(structure, chain) for bound, chain in chains if bound < whole.total and (most is None or bound <= most)
    ]
    return [whole, *(plan for plan in found if plan.total < whole.total)]


def plan_with(structure: Structure, stages: Sequence[Stage]) -> FirmwarePlan:
    """The plan of stages that are known, whole maps without any.

    Raises:
        InputError: if the network has no such stages.
    """
    return _planned(structure, chain_with(structure, stages))


def _planned(structure: Structure, chain: Chain | None) -> FirmwarePlan:
    outputs, in_place = [port.tensor for port in structure.outputs], overwritten(structure)
    spans = spans_of(structure.ops, heights_of(structure), outputs, chain, in_place.items())
    return replace(_placed(structure, spans, _roots(structure, chain, in_place)), strips=chain)


def _placed(structure: Structure, spans: Sequence[Span], roots: list[int]) -> FirmwarePlan:
    kept = sorted(set(roots))
    plan = best_plan(_buffers(structure, roots, kept, spans))
    offsets = dict(zip(kept, plan.offsets, strict=True))
    return FirmwarePlan(tuple(offsets[root] for root in roots), plan.total)


def _roots(structure: Structure, chain: Chain | None, in_place: Mapping[int, int]) -> list[int]:
    """For each tensor the one whose memory it is: itself, unless a reshape made it, or an operator outside of a stage
    that writes over its operand."""
    roots = list(range(len(structure.shapes)))
    for index, op in enumerate(structure.ops):
        if op.kind is Kind.RESHAPE:
            roots[op.output] = roots[op.inputs[0]]
        elif index in in_place and (chain is None or index not in chain.inside):
            roots[op.output] = roots[in_place[index]]
    return roots


def _buffers(structure: Structure, roots: list[int], kept: list[int], spans: Sequence[Span]) -> list[Buffer]:
    lives = {root: list(spans[root][1:]) for root in kept}
    for tensor, root in enumerate(roots):
        lives[root] = [min(lives[root][0], spans[tensor][1]), max(lives[root][1], spans[tensor][2])]
    sizes = (_aligned(spans[root][0] * row_bytes(structure.shapes[root])) for root in kept)
    return [(size, lives[root][0], lives[root][1]) for size, root in zip(sizes, kept, strict=True)]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
