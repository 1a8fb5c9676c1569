"""A stage that runs strip by strip: a few rows of all its operators before the next rows of any of them.

The first layers of a network hold its largest maps. MCUNetV2 (Lin et al., NeurIPS 2021) runs them patch by patch and
computes again what neighbouring patches share. Here a patch is a strip of whole rows, and every tensor inside the
stage keeps the rows that the next strip needs again: less memory than patches of the same stage, and nothing is
computed twice. Which rows those are follows from heights and windows alone, whatever the channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcu.graph.kinds import Kind
from mcu.int8.lookup import TABLES
from mcu.int8.structure import OpForm, Structure

WINDOWED = frozenset({Kind.CONV, Kind.DEPTHWISE, Kind.MAX_POOL, Kind.AVG_POOL})
PADDING = frozenset({Kind.PAD, Kind.PADV2})
ROW_BY_ROW = frozenset({Kind.ADD, Kind.CONCAT, Kind.RELU, Kind.MUL, Kind.GATHER, *TABLES})
"""Operators whose output row needs that row of their inputs."""

IN_PLACE = frozenset({Kind.ADD, Kind.RELU, Kind.MUL, Kind.PRELU, *TABLES})
"""Operators that read a value for the last time before they write the one in its place."""

CALL_BYTES, DESCRIPTION_BYTES, FUNCTION_BYTES = 20, 44, 24
"""About what a call, a layer's description and a function take of flash: what stages are compared by, on every core."""


@dataclass(frozen=True)
class Stage:
    """Operators ``first`` to ``end - 1``; each strip makes ``rows`` rows of the output of the last one."""

    first: int
    end: int
    rows: int

    def __str__(self) -> str:
        return f"operators {self.first + 1} to {self.end}, {self.rows} row{'s' * (self.rows > 1)} at a time"


@dataclass(frozen=True)
class Part:
    """What one operator does in a strip, in rows.

    Attributes:
        made: rows of its output.
        read: rows of each input.
        top, bottom: of its padding, rows that fall into the strip.
        read_at: for each input, the first row from the start of its buffer.
        write_at: the first row of the output, from the start of its buffer.
        kept: rows of the output that are needed again, ``shift`` rows above the place where they are now; moved first.
    """

    op: int
    made: int
    read: int
    top: int
    bottom: int
    read_at: tuple[int, ...]
    write_at: int
    kept: int
    shift: int


@dataclass(frozen=True)
class Turns:
    """Equal strips.

    Attributes:
        times: how many there are.
        parts: of the first of them, in order.
        read_steps, write_steps: for each part, rows by which ``read_at`` and ``write_at`` grow from strip to strip.
    """

    times: int
    parts: tuple[Part, ...]
    read_steps: tuple[tuple[int, ...], ...]
    write_steps: tuple[int, ...]


@dataclass(frozen=True)
class Forms:
    """How often one operator is called in the program, and by how many different descriptions."""

    calls: int
    descriptions: int
    moves: int
    move_descriptions: int


class Strips:
    """The rows of every operator of a stage in every strip."""

    def __init__(self, ops: Sequence[OpForm], heights: Sequence[int], stage: Stage) -> None:
        self.stage = stage
        self._ops, self._heights = ops, heights
        self._inside = range(stage.first, stage.end)
        self.output = ops[stage.end - 1].output
        self._base: dict[int, np.ndarray] = {}  # the row that a tensor's buffer starts with, in each strip
        self.persistent: set[int] = set()
        self._plan()

    def _shares(self) -> tuple[dict[int, int], dict[int, int]]:
        """Rows of every tensor per strip, and by how many more the first strip makes them: where shares end, a row of
        the output needs no more."""
        share, need = {self.output: self.stage.rows}, {self.output: self.stage.rows}
        for index in reversed(self._inside):
            op = self._ops[index]
            for tensor in op.inputs:
                share[tensor] = max(share.get(tensor, 0), share[op.output] * _stride(op))
                end = _rows_read(op, np.array(need[op.output]), self._heights[tensor])[1]
                need[tensor] = max(need.get(tensor, 0), int(end))
        return share, {tensor: (rows - share[tensor]) % share[tensor] for tensor, rows in need.items()}

    def _rows_made(self) -> dict[int, np.ndarray]:
        """Rows of every tensor after each strip, 0 before the first. An operator makes the rows that its inputs allow,
        but no more than its share when they end: rows pile up nowhere."""
        share, surplus = self._shares()
        ops = [self._ops[index] for index in self._inside]
        late = sum(2 * op.kernel[0] * op.dilation[0] + sum(op.padding[0]) for op in ops)
        strips = np.arange(-(-self._heights[self.output] // self.stage.rows) + late + 1)
        made: dict[int, np.ndarray] = {}
        for op in ops:
            height, ramp = self._heights[op.output], share[op.output] * strips
            allowed = [_rows_allowed(op, made[t], self._heights[t], height) for t in op.inputs if t in made]
            most = np.minimum(np.min(allowed, axis=0) if allowed else ramp + surplus[op.output], height)
            most[0] = 0
            start = int(np.argmax(most > 0))
            made[op.output] = np.zeros_like(strips)
            made[op.output][start:] = np.minimum.accumulate(most[start:] - ramp[start:]) + ramp[start:]
        complete = np.flatnonzero(made[self.output] == self._heights[self.output])
        return {tensor: rows[: complete[0] + 1] for tensor, rows in made.items()}

    def _plan(self) -> None:
        self._made = self._rows_made()
        needed: dict[int, np.ndarray] = {}
        for index in self._inside:
            op = self._ops[index]
            for tensor in op.inputs:
                start = _rows_read(op, self._made[op.output][:-1], self._heights[tensor])[0]
                needed[tensor] = np.minimum(needed.get(tensor, start), start)
        for index in self._inside[:-1]:
            tensor = self._ops[index].output
            before, after = self._made[tensor][:-1], self._made[tensor][1:]
            if np.any(needed[tensor][1:] < before[1:]):
                self.persistent.add(tensor)
            moved = np.where(after > before, np.minimum(needed[tensor], before), 0)
            self._base[tensor] = np.maximum.accumulate(moved)

    def rows(self, tensor: int) -> int:
        """Rows that the buffer of a tensor inside the stage has."""
        return int((self._made[tensor][1:] - self._base[tensor]).max())

    def tensors(self) -> Iterator[int]:
        """Those inside the stage, of which there are only some rows at any time."""
        return iter(self._base)

    @cached_property
    def _table(self) -> np.ndarray:
        """``(strips, operators, 7 + inputs)``: fields of Part, all zero where an operator makes no rows."""
        most = max(len(self._ops[index].inputs) for index in self._inside)
        table = np.zeros((len(self._made[self.output]) - 1, len(self._inside), 7 + most), np.int64)
        for place, index in enumerate(self._inside):
            op = self._ops[index]
            low, high = self._made[op.output][:-1], self._made[op.output][1:]
            start, end = _rows_read(op, self._made[op.output], self._heights[op.inputs[0]])
            read = np.maximum(end[1:] - start[:-1], 0)
            top = np.clip(op.padding[0][0] - low * _stride(op), 0, None)
            bottom = np.zeros_like(top)
            if op.kind in PADDING:
                top = np.minimum(top, high - low)
                bottom = high - low - top - read
            base = self._base.get(op.output, np.zeros_like(low))
            previous = np.concatenate([[0], base[:-1]])
            kept = np.where(base > previous, low - base, 0)
            shift = np.where(kept > 0, base - previous, 0)
            columns = [high - low, read, top, bottom, low - base, kept, shift]
            columns += [start[:-1] - self._base.get(tensor, 0) for tensor in op.inputs]
            table[:, place, : len(columns)] = np.stack(columns, -1) * (high > low)[:, None]
        return table

    @cached_property
    def _is_whole(self) -> np.ndarray:
        """Which entries of ``_table`` are places in tensors that are there as a whole: they move on in every strip."""
        whole = np.zeros(self._table.shape[1:], bool)
        whole[-1, 4] = True
        for place, index in enumerate(self._inside):
            for number, tensor in enumerate(self._ops[index].inputs):
                whole[place, 7 + number] = tensor not in self._base
        return whole

    @cached_property
    def _starts(self) -> list[int]:
        """The first strip of each run of equal ones."""
        rolled = np.where(self._is_whole, 0, self._table)
        differs = np.any(rolled[1:] != rolled[:-1], axis=(1, 2))
        return [0, *(int(at) + 1 for at in np.flatnonzero(differs))]

    @cached_property
    def turns(self) -> list[Turns]:
        """All strips in order, runs of equal ones together."""
        found = []
        for start, end in zip(self._starts, [*self._starts[1:], len(self._table)], strict=True):
            step = np.where(self._is_whole, self._table[min(start + 1, end - 1)] - self._table[start], 0)
            parts = [place for place in range(len(self._inside)) if self._table[start, place, 0]]
            inputs = [len(self._ops[self.stage.first + place].inputs) for place in parts]
            found.append(
                Turns(
                    end - start,
                    tuple(self._part(start, place) for place in parts),
                    tuple(tuple(step[p, 7 : 7 + n].tolist()) for p, n in zip(parts, inputs, strict=True)),
                    tuple(int(step[place, 4]) for place in parts),
                )
            )
        return found

    def _part(self, strip: int, place: int) -> Part:
        index = self.stage.first + place
        made, read, top, bottom, write_at, kept, shift, *reads = self._table[strip, place].tolist()
        read_at = tuple(reads[: len(self._ops[index].inputs)])
        return Part(index, made, read, top, bottom, read_at, write_at, kept, shift)

    @cached_property
    def forms(self) -> dict[int, Forms]:
        """For every operator of the stage how its calls are written."""
        firsts = self._table[self._starts]
        found = {}
        for place, index in enumerate(self._inside):
            own = firsts[:, place]
            called, moved = own[own[:, 0] > 0], own[own[:, 5] > 0]
            kinds = {tuple(row) for row in called[:, :4].tolist()}
            found[index] = Forms(len(called), len(kinds), len(moved), len(set(moved[:, 5].tolist())))
        return found

    @property
    def runs(self) -> tuple[int, int]:
        """Runs of equal strips, and those of more than one."""
        lengths = np.diff([*self._starts, len(self._table)])
        return len(lengths), int(np.count_nonzero(lengths > 1))

    @cached_property
    def flash(self) -> int:
        """About the bytes of flash that its additional calls, descriptions and functions take."""
        forms = self.forms.values()
        calls = sum(form.calls + form.moves - 1 for form in forms)
        descriptions = sum(form.descriptions + form.move_descriptions - 1 for form in forms)
        return calls * CALL_BYTES + descriptions * DESCRIPTION_BYTES + self.runs[0] * FUNCTION_BYTES


def _stride(op: OpForm) -> int:
    return op.stride[0] if op.kind in WINDOWED else 1


def _rows_allowed(op: OpForm, made: np.ndarray, height: int, out_height: int) -> np.ndarray:
    """Rows of the output that the first ``made`` of ``height`` rows of an input allow."""
    top = op.padding[0][0]
    if op.kind in WINDOWED:
        allowed = (made + top - (op.kernel[0] - 1) * op.dilation[0] - 1) // op.stride[0] + 1
    else:
        allowed = made + top
    return np.where(made < height, np.clip(allowed, 0, out_height), out_height)


def _rows_read(op: OpForm, made: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Of an input, the first row that output rows from ``made`` on need, and the end of those that rows up to it do."""
    top = op.padding[0][0]
    if op.kind in WINDOWED:
        start = made * op.stride[0] - top
        end = np.where(made > 0, start - op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1, 0)
    elif op.kind in PADDING:
        start = end = made - top
    else:
        start = end = made
    return np.clip(start, 0, height), np.clip(end, 0, height)


Span = tuple[int, int, int]
"""Rows of a tensor that there is memory for, its first and last step; step 0 is before the first operator."""


def overwritten(structure: Structure) -> dict[int, int]:
    """By the index of an operator the operand that its output may take the place of: of the same shape, read for the
    last time, under no other shape either, and no output of the network."""
    names = list(range(len(structure.shapes)))
    for op in structure.ops:
        if op.kind is Kind.RESHAPE:
            names[op.output] = names[op.inputs[0]]
    last = {names[tensor]: index for index, op in enumerate(structure.ops) for tensor in op.inputs}
    last |= {names[port.tensor]: len(structure.ops) for port in structure.outputs}
    found: dict[int, int] = {}
    for index, op in enumerate(structure.ops):
        if op.kind in IN_PLACE:
            for tensor in op.inputs:
                if last[names[tensor]] == index and structure.shapes[tensor] == structure.shapes[op.output]:
                    found.setdefault(index, tensor)
    return found


def heights_of(structure: Structure) -> tuple[int, ...]:
    """Rows of every tensor; a vector has one."""
    return tuple(shape[1] if len(shape) == 4 else 1 for shape in structure.shapes)


def runs_by_rows(structure: Structure, op: OpForm) -> bool:
    """Whether some rows of an operator's output can be made from some rows of its inputs."""
    shapes = [structure.shapes[tensor] for tensor in (*op.inputs, op.output)]
    if op.kind not in WINDOWED | PADDING | ROW_BY_ROW or any(len(shape) != 4 for shape in shapes):
        return False
    return op.kind in WINDOWED | PADDING or len({shape[:3] for shape in shapes}) == 1
