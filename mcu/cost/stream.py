"""A network run again and again on a window that moves on along a stream: only rows that are new are computed.

The window's rows are points of time, and from step to step it moves on by ``hop`` of them. A row of a map is *inner* if
no padding has a part in it, in its layer or any before: it depends on the rows of the input it looks at and not on
where the window ends, so that in the next step it is there again, ``shift`` rows higher (the hop over the strides so
far). Inner rows are computed once, when they enter, and kept; rows next to padding are computed in every step. What is
computed is what the output needs: a network that reads its last row only keeps a few rows of each map.

The same values as those of the whole window, by construction: every row comes from the same kernel on the same codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcu.cost.stage import PADDING, WINDOWED, Forms, Part, Span, heights_of, runs_by_rows
from mcu.errors import InputError
from mcu.graph.kinds import Kind
from mcu.int8.structure import OpForm, Structure


@dataclass(frozen=True)
class Inner:
    """Rows ``first`` to ``end - 1`` of a map are inner ones; each was ``shift`` rows lower in the step before."""

    first: int
    end: int
    shift: int


@dataclass(frozen=True)
class Move:
    """Of a buffer, ``count`` rows from row ``source`` on that move to row ``target``, above it."""

    count: int
    source: int
    target: int


NOTHING = Inner(0, 0, 0)


class Stream:
    """Which rows of every tensor a step computes and keeps.

    Attributes:
        hop: rows of the input by which the window moves on in a step.
        parts: for every operator that computes only some rows, what it does.
        moves: of tensors that keep rows from step to step; that of the input comes last in a step.
        warm_up: steps before the first whose window is whole.
    """

    def __init__(self, structure: Structure, hop: int) -> None:
        if len(structure.inputs) != 1:
            raise InputError(f"stream: {len(structure.inputs)} inputs; a stream is the rows of one")
        self.input = structure.inputs[0].tensor
        self._structure, self._heights = structure, heights_of(structure)
        rows = self._heights[self.input]
        if rows < 2:
            raise InputError("stream: the input is a single row; a stream is the rows of a window")
        if isinstance(hop, bool) or hop not in range(1, rows):
            raise InputError(f"stream: hop = {hop!r}: must be 1 to {rows - 1}, less than the input's {rows} rows")
        self.hop = hop
        self.warm_up = -(-rows // hop) - 1
        self._inner = self._inner_rows()
        self._fresh, self._kept = self._rows_of_a_step()
        stored = [fresh | kept for fresh, kept in zip(self._fresh, self._kept, strict=True)]
        self._at = [np.concatenate([[0], np.cumsum(rows)]) for rows in stored]
        self.moves = {tensor: move for tensor in range(len(stored)) if (move := self._move(tensor)).count}
        self.parts = {index: self._parts(index, op) for index, op in enumerate(structure.ops) if not self._is_whole(op)}

    def _inner_rows(self) -> list[Inner]:
        found = [NOTHING] * len(self._heights)
        found[self.input] = Inner(0, self._heights[self.input], self.hop)
        for op in self._structure.ops:
            if self._by_rows(op):
                found[op.output] = _after(op, [found[tensor] for tensor in op.inputs], self._heights[op.output])
        return found

    def _by_rows(self, op: OpForm) -> bool:
        return op.kind is Kind.SLICE or runs_by_rows(self._structure, op)

    def _rows_of_a_step(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For every tensor the rows that a step computes, and those that were computed before; bool ``(rows,)``."""
        needed = [np.zeros(rows, bool) for rows in self._heights]
        fresh, kept = ([np.zeros(rows, bool) for rows in self._heights] for _ in range(2))
        for port in self._structure.outputs:
            needed[port.tensor][:] = True
        for op in reversed(self._structure.ops):
            if not self._by_rows(op):
                for tensor in (*op.inputs, op.output):
                    needed[tensor][:] = True
            fresh[op.output], kept[op.output] = self._split(op.output, needed[op.output], op.kind not in PADDING)
            for tensor in op.inputs:
                for first, end in _runs(fresh[op.output]):
                    start, stop = _read(op, first, end, self._heights[tensor])
                    needed[tensor][start:stop] = True
        fresh[self.input], kept[self.input] = self._split(self.input, needed[self.input], keeps=True)
        fresh[self.input][-self.hop :] = True  # where the caller writes them
        return fresh, kept

    def _split(self, tensor: int, needed: np.ndarray, keeps: bool) -> tuple[np.ndarray, np.ndarray]:
        """Needed rows as those to compute and those to keep. What enters is kept until the last row that needs it."""
        inner, enters = self._inner[tensor], self._inner[tensor].end - self._inner[tensor].shift
        kept = np.zeros_like(needed)
        highest = inner.first + int(np.argmax(np.append(needed[inner.first : inner.end], True)))
        if not keeps or highest >= enters:
            return needed, kept
        kept[highest:enters] = True
        fresh = needed & ~kept
        fresh[enters : inner.end] = True
        return fresh, kept

    def _move(self, tensor: int) -> Move:
        """Of the rows that the step before left, those that are kept."""
        rows, at = np.flatnonzero(self._kept[tensor]), self._at[tensor]
        if not len(rows):
            return Move(0, 0, 0)
        return Move(len(rows), int(at[rows[0] + self._inner[tensor].shift]), int(at[rows[0]]))

    def _is_whole(self, op: OpForm) -> bool:
        """Whether an operator runs on whole maps."""
        there = all(self.rows(tensor) == self._heights[tensor] for tensor in op.inputs)
        return not self._by_rows(op) or (there and bool(self._fresh[op.output].all()))

    def _parts(self, index: int, op: OpForm) -> tuple[Part, ...]:
        return tuple(self._part(index, op, first, end) for first, end in _runs(self._fresh[op.output]))

    def _part(self, index: int, op: OpForm, first: int, end: int) -> Part:
        made = end - first
        start, stop = _read(op, first, end, self._heights[op.inputs[0]])
        top = max(_window(op)[2] - first * _window(op)[0], 0) if op.kind is not Kind.SLICE else 0
        bottom = 0
        if op.kind in PADDING:
            top = min(top, made)
            bottom = made - top - (stop - start)
        read_at = tuple(int(self._at[tensor][start]) for tensor in op.inputs)
        return Part(index, made, stop - start, top, bottom, read_at, int(self._at[op.output][first]), 0, 0)

    def rows(self, tensor: int) -> int:
        """Rows that the buffer of a tensor has."""
        return int(self._at[tensor][-1])

    @property
    def entry(self) -> int:
        """Row of the input's buffer where the new ones begin."""
        return self.rows(self.input) - self.hop

    def spans(self) -> list[Span]:
        """Rows and lifetime of every tensor, as ``mcu.cost.stage.spans_of``; what keeps rows is there all the time."""
        steps = len(self._structure.ops)
        spans = [[self.rows(tensor), 0, 0] for tensor in range(len(self._heights))]
        for step, op in enumerate(self._structure.ops, 1):
            spans[op.output][1:] = [step, step]
            for tensor in op.inputs:
                spans[tensor][2] = step
        for tensor in (port.tensor for port in self._structure.outputs):
            spans[tensor][2] = steps
        for tensor in self.moves:
            spans[tensor][1:] = [0, steps]
        return [(rows, first, last) for rows, first, last in spans]

    @cached_property
    def forms(self) -> dict[int, Forms]:
        """For every operator that computes only some rows how its calls are written."""
        found = {}
        for index, parts in self.parts.items():
            kinds = {(part.made, part.read, part.top, part.bottom) for part in parts}
            moved = int(self._structure.ops[index].output in self.moves)
            found[index] = Forms(len(parts), len(kinds), moved, moved)
        return found

    def obstacle(self, names: Sequence[str]) -> str:
        """The first layer that computes all of its rows in every step, why, and what to do.

        Args:
            names: of the operators.
        """
        for index, op in enumerate(self._structure.ops):
            if op.kind not in PADDING and self._fresh[op.output].all():
                return f"layer {index + 1}, {names[index]!r}, {self._reason(op)}"
        return "no layer keeps rows"

    def _reason(self, op: OpForm) -> str:
        shift, stride = self._inner[op.inputs[0]].shift, _window(op)[0]
        if not self._by_rows(op):
            return f"{op.kind}, reads the whole window: convolve along time before it"
        if shift % stride:
            least = self.hop * stride // math.gcd(shift, stride)
            return f"has stride {stride} along time: take a hop that is a multiple of {least}"
        return "has no row that is there again after the hop: take a shorter hop, or a window longer than its padding"


def windows_of(rows: np.ndarray, height: int, hop: int) -> np.ndarray:
    """The whole windows of a recording at every step: ``(rows, ...)`` to ``(steps, height, ...)``."""
    ends = np.arange(-(-height // hop) * hop, len(rows) + 1, hop)
    return rows[ends[:, None] - height + np.arange(height)]


def _window(op: OpForm) -> tuple[int, int, int]:
    """Stride, rows and padding above of the windows along rows; a SLICE's are single rows from ``begin`` on."""
    if op.kind is Kind.SLICE:
        return op.stride[0], 1, -op.begin[0]
    if op.kind in WINDOWED:
        return op.stride[0], (op.kernel[0] - 1) * op.dilation[0] + 1, op.padding[0][0]
    return 1, 1, op.padding[0][0] if op.kind in PADDING else 0


def _after(op: OpForm, inputs: Sequence[Inner], height: int) -> Inner:
    """Inner rows of an operator's output."""
    stride, extent, top = _window(op)
    shifts = {inner.shift for inner in inputs}
    shift = shifts.pop()
    if shifts or not shift or shift % stride:
        return NOTHING
    first = max(inner.first for inner in inputs)
    end = min(inner.end for inner in inputs)
    low = max(-(-(first + top) // stride), 0)
    high = min((end - extent + top) // stride + 1, height)
    return Inner(low, high, shift // stride) if low < high else NOTHING


def _read(op: OpForm, first: int, end: int, height: int) -> tuple[int, int]:
    """Rows of an input that rows ``first`` to ``end - 1`` of the output need, with those between them."""
    stride, extent, top = _window(op)
    start, stop = first * stride - top, (end - 1) * stride - top + extent
    return min(max(start, 0), height), min(max(stop, 0), height)


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """First and end of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(np.int8), [0]])))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
