"""Chains of stages that run strip by strip one after another, and which of them could be worth their calls.

A stage at the front of a network takes away the largest maps; then the peak is often just behind it, or in it, where it
has to be long to pass a second wide layer. Stages are closed: a tensor inside is read inside only, and what else is
alive then is whole. So the memory of a stage does not depend on the others of its chain, and the chain with the fewest
additional bytes of flash below a bound of memory is a shortest path over the operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache

import numpy as np

from mcu.cost.stage import Forms, Span, Stage, Strips, Turns, heights_of, overwritten, runs_by_rows
from mcu.errors import InputError
from mcu.graph.kinds import Kind
from mcu.int8.structure import OpForm, Structure

HEIGHTS, LATER_HEIGHTS = (1, 2, 4), (1, 2)
"""Rows of a stage's output per strip that are tried, at the front of the network and anywhere behind."""

MOST_OPERATORS, MOST_LATER = 64, 8
"""Of a stage at the front, and of one behind."""


@dataclass(frozen=True)
class Chain:
    """Stages in order, none inside another; what is not in one of them makes whole maps."""

    links: tuple[Strips, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the chain is found by again."""
        return tuple(strips.stage for strips in self.links)

    @cached_property
    def inside(self) -> frozenset[int]:
        """Operators that run strip by strip."""
        return frozenset(index for stage in self.stages for index in range(stage.first, stage.end))

    def turns_at(self, index: int) -> list[Turns]:
        """All strips of the stage that an operator is the first of, none for other operators."""
        return [turns for strips in self.links if strips.stage.first == index for turns in strips.turns]

    @cached_property
    def forms(self) -> dict[int, Forms]:
        """For every operator inside how its calls are written."""
        return {index: form for strips in self.links for index, form in strips.forms.items()}

    @property
    def flash(self) -> int:
        """About the bytes of flash that additional calls, descriptions and functions take."""
        return sum(strips.flash for strips in self.links)

    def __str__(self) -> str:
        return ", then ".join(map(str, self.stages))


def spans_of(
    ops: Sequence[OpForm],
    heights: Sequence[int],
    outputs: Iterable[int],
    chain: Chain | None,
    in_place: Iterable[tuple[int, int]] = (),
) -> list[Span]:
    """Rows and lifetime of every tensor. A stage runs its operators again and again: what is read from outside stays
    until its end, its output is there from its start, and so is what is kept from strip to strip.

    Args:
        in_place: operators and the operand that each writes over, as ``overwritten``, outside of a stage: it ends with
            the operator before.
    """
    spans = [[height, 0, 0] for height in heights]
    for step, op in enumerate(ops, 1):
        spans[op.output][1:] = [step, step]
        for tensor in op.inputs:
            spans[tensor][2] = step
    for tensor in outputs:
        spans[tensor][2] = len(ops)
    for index, tensor in in_place:
        if chain is None or index not in chain.inside:
            spans[tensor][2] = index
    for strips in () if chain is None else chain.links:
        first, last = strips.stage.first + 1, strips.stage.end
        for span in spans:
            if span[1] < first <= span[2] < last:
                span[2] = last
        spans[strips.output][1] = first
        for tensor in strips.tensors():
            spans[tensor][0] = strips.rows(tensor)
            if tensor in strips.persistent:
                spans[tensor][1:] = [first, last]
    return [(rows, first, last) for rows, first, last in spans]


@dataclass(frozen=True)
class Stages:
    """Every stage that could run strip by strip, and the rows that are there in every step.

    Attributes:
        front: the first operator that can run by rows: stages there may be long.
        whole: ``(steps, tensors)``, rows of every tensor on whole maps; step 0 is before the first operator.
        own: the same for the steps of every stage, one after another.
        places: ``(stages, 3)``, first operator, end and rows at a time.
    """

    strips: tuple[Strips, ...]
    front: int
    whole: np.ndarray
    own: np.ndarray
    places: np.ndarray

    def bytes_alive(self, structure: Structure) -> _Alive:
        """What the channels of a structure make of the rows."""
        sizes = np.array([row_bytes(shape) for shape in structure.shapes], np.float64)
        sizes[[op.output for op in structure.ops if op.kind is Kind.RESHAPE]] = 0
        whole, own = self.whole @ sizes, self.own @ sizes
        first, end, _ = self.places.T
        if self.strips:
            own = np.maximum.reduceat(own, np.cumsum(end - first) - (end - first))
        ranges = np.stack([first + 1, end + 1], -1).ravel()
        replaced = np.maximum.reduceat(np.append(whole, 0), ranges)[::2] if self.strips else own
        return _Alive(whole.astype(np.int64), own.astype(np.int64), replaced.astype(np.int64))


@dataclass(frozen=True)
class _Alive:
    """Bytes of tensors in every step of whole maps; for each stage the most in any of its steps, and of these steps on
    whole maps."""

    whole: np.ndarray
    own: np.ndarray
    replaced: np.ndarray


def row_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of a row of a map, or of a vector."""
    size = 1
    for extent in shape[2:] if len(shape) == 4 else shape:
        size *= extent
    return size


def stages_of(structure: Structure) -> Stages:
    """The stages of a network: only their last output is read outside. Known from the heights alone, and kept for the
    next channel counts."""
    by_rows = tuple(runs_by_rows(structure, op) for op in structure.ops)
    outputs = frozenset(port.tensor for port in structure.outputs)
    in_place = tuple(overwritten(structure).items())
    return _stages(structure.ops, heights_of(structure), by_rows, outputs, in_place)


@lru_cache(maxsize=8)
def _stages(
    ops: tuple[OpForm, ...],
    heights: tuple[int, ...],
    by_rows: tuple[bool, ...],
    outputs: frozenset[int],
    in_place: tuple[tuple[int, int], ...],
) -> Stages:
    front = (*by_rows, True).index(True)
    last_read = dict.fromkeys(outputs, len(ops))
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            last_read[tensor] = max(last_read.get(tensor, 0), index)
    strips = [
        Strips(ops, heights, Stage(first, end, rows))
        for first in range(front, len(ops))
        for end in _ends(ops, by_rows, last_read, first, MOST_OPERATORS if first == front else MOST_LATER)
        for rows in (HEIGHTS if first == front else LATER_HEIGHTS)
        if rows < heights[ops[end - 1].output]
    ]

    def alive(chain: Chain | None, steps: range) -> np.ndarray:
        rows, first, last = np.array(spans_of(ops, heights, outputs, chain, in_place), np.float64).T
        at = np.array(steps)[:, None]
        return rows * (first <= at) * (at <= last)

    own = [alive(Chain((one,)), range(one.stage.first + 1, one.stage.end + 1)) for one in strips]
    places = np.array([astuple(one.stage) for one in strips], np.int64).reshape(-1, 3)
    rows = np.concatenate([*own, np.zeros((0, len(heights)))])
    return Stages(tuple(strips), front, alive(None, range(len(ops) + 1)), rows, places)


def _ends(
    ops: Sequence[OpForm], by_rows: Sequence[bool], last_read: dict[int, int], first: int, most: int
) -> Iterator[int]:
    """Where a stage of several operators that starts at ``first`` can end: nothing inside is read later."""
    latest = 0
    for index in range(first, min(first + most, len(ops))):
        if not by_rows[index]:
            return
        if first < index and latest <= index:
            yield index + 1
        latest = max(latest, last_read.get(ops[index].output, len(ops)))


def chain_with(structure: Structure, stages: Sequence[Stage]) -> Chain | None:
    """The chain of stages that are known, None for none.

    Raises:
        InputError: if the network has no such stages.
    """
    known = {strips.stage: strips for strips in stages_of(structure).strips}
    end = 0
    for stage in stages:
        if stage not in known or stage.first < end:
            raise InputError(f"network: {stage} cannot run strip by strip in it")
        end = stage.end
    return Chain(tuple(known[stage] for stage in stages)) if stages else None


def chains_of(structure: Structure, several: bool = True) -> list[tuple[int, Chain | None]]:
    """Whole maps, which are None, then chains: the most bytes alive at any step, of chains the least first. A stage at
    the front, of as many rows a time only those that end earlier; and what takes less than any of them with as many
    rows.

    Args:
        several: whether there may be more than one stage, and stages elsewhere.
    """
    stages = stages_of(structure)
    alive = stages.bytes_alive(structure)
    whole = alive.whole
    before, after = np.maximum.accumulate(whole), np.maximum.accumulate(np.append(whole, 0)[::-1])[::-1]
    first, end, _ = stages.places.T
    fronts = np.flatnonzero(first == stages.front)
    bounds = np.max([before[first[fronts]], alive.own[fronts], after[end[fronts] + 1]], axis=0)
    found: list[tuple[int, Chain]] = []
    ends: dict[int, int] = {}
    least = dict.fromkeys(HEIGHTS, int(whole.max()))
    for place in np.argsort(bounds, kind="stable"):
        strips, bound = stages.strips[fronts[place]], int(bounds[place])
        if strips.stage.end < ends.get(strips.stage.rows, len(whole)):
            ends[strips.stage.rows] = strips.stage.end
            found.append((bound, Chain((strips,))))
            least[strips.stage.rows] = min(least[strips.stage.rows], bound)
    if several:
        found += [pair for rows in LATER_HEIGHTS for pair in _smaller(stages, alive, rows, least[rows])]
    return [(int(whole.max()), None), *sorted(found, key=lambda pair: pair[0])]


def _smaller(stages: Stages, alive: _Alive, rows: int, bound: int) -> Iterator[tuple[int, Chain]]:
    """Chains below a bound of memory: each with the fewest additional bytes of flash below the one before."""
    of_height = stages.places[:, 2] == rows
    while True:
        too_large = alive.whole >= bound
        by_end: dict[int, list[int]] = {}
        for number in np.flatnonzero(of_height & (alive.own < bound) & (alive.replaced >= bound)).tolist():
            by_end.setdefault(stages.strips[number].stage.end, []).append(number)
        chosen = None if too_large[0] else _shortest(stages, too_large.tolist(), by_end)
        if chosen is None:
            return
        chain = Chain(tuple(stages.strips[number] for number in chosen))
        outside = [step for step in range(len(too_large)) if step - 1 not in chain.inside]
        bound = int(max(alive.whole[outside].max(), alive.own[list(chosen)].max()))
        yield bound, chain


def _shortest(stages: Stages, too_large: Sequence[bool], by_end: Mapping[int, Sequence[int]]) -> tuple[int, ...] | None:
    """The stages with the fewest additional bytes of flash that pass every step that is too large; None for none."""
    paths: list[tuple[int, tuple[int, ...]] | None] = [(0, ())]
    for end in range(1, len(too_large)):
        best = None if too_large[end] else paths[end - 1]
        for number in by_end.get(end, ()):
            strips = stages.strips[number]
            path = paths[strips.stage.first]
            if path is not None and (best is None or path[0] + strips.flash < best[0]):
                best = (path[0] + strips.flash, (*path[1], number))
        paths.append(best)
    return paths[-1] and paths[-1][1]
