"""The program of a model: kernel calls in order, those of equal strips once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from mcu.cost.chain import Chain
from mcu.cost.firmware_kernels import program_kernels
from mcu.cost.stage import PADDING, Part, Turns
from mcu.cost.stream import Move, Stream
from mcu.firmware.calls import Call, lowered, with_kernel
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model, QOp


@dataclass(frozen=True)
class Place:
    """Where an argument starts: bytes from the start of a tensor's memory, ``step`` more in every turn of the loop."""

    tensor: int
    at: int = 0
    step: int = 0


@dataclass(frozen=True)
class Placed:
    """A call and its arguments: inputs, then the output. ``layer`` is its number in ``calls_of``."""

    call: Call
    arguments: tuple[Place, ...]
    layer: int


@dataclass(frozen=True)
class Loop:
    """Calls one after another, ``times`` times."""

    times: int
    calls: tuple[Placed, ...]


def program_of(model: Int8Model, chain: Chain | None, stream: Stream | None = None) -> tuple[Loop, ...]:
    """All calls of a model; neighbouring ones that are made once are one loop.

    Args:
        chain: stages of operators that run strip by strip.
        stream: what a step of a stream computes and keeps, instead.

    Raises:
        InputError: if the kernels cannot express an operator exactly.
    """
    layers = [0, *accumulate(_calls(op) for op in model.ops)]
    loops: list[Loop] = []
    for index in range(len(model.ops)):
        if stream is not None:
            loops.append(_step(model, index, stream, layers[index]))
        elif chain is None or index not in chain.inside:
            loops.append(_wholes(model, index, layers[index]))
        else:
            loops += [_strips(model, turns, layers) for turns in chain.turns_at(index)]
    if stream is not None and stream.input in stream.moves:
        moved = _moved(model, QOp(Kind.RESHAPE, (), stream.input, name="input"), stream.moves[stream.input], layers[-1])
        loops.append(Loop(1, (moved,)))
    kernels = iter(program_kernels([placed.call.function for loop in loops for placed in loop.calls]))
    return tuple(
        replace(loop, calls=tuple(_named(placed, next(kernels)) for placed in loop.calls)) for loop in _joined(loops)
    )


def _joined(loops: Sequence[Loop]) -> Iterator[Loop]:
    for once, group in groupby(loops, lambda loop: loop.times == 1):
        if once:
            yield Loop(1, tuple(placed for loop in group for placed in loop.calls))
        else:
            yield from group


def _calls(op: QOp) -> int:
    return {Kind.RESHAPE: 0, Kind.CONCAT: len(op.inputs)}.get(op.kind, 1)


def _named(placed: Placed, kernel: str) -> Placed:
    return replace(placed, call=with_kernel(placed.call, kernel))


def _whole(layer: int, call: Call) -> Placed:
    inputs = tuple(Place(tensor) for tensor in call.inputs)
    return Placed(call, (*inputs, Place(call.output, call.output_at)), layer)


def _wholes(model: Int8Model, index: int, layer: int) -> Loop:
    return Loop(1, tuple(_whole(at, call) for at, call in enumerate(lowered(model, model.ops[index]), layer)))


def _step(model: Int8Model, index: int, stream: Stream, layer: int) -> Loop:
    """The calls of one operator in a step of a stream."""
    op, parts = model.ops[index], stream.parts.get(index)
    if parts is None:
        return _wholes(model, index, layer)
    placed: list[Placed] = []
    if op.output in stream.moves:
        placed.append(_moved(model, op, stream.moves[op.output], layer))
    for part in parts:
        placed += _strip(model, op, part, dict.fromkeys(op.inputs, 0), 0, layer)
    return Loop(1, tuple(placed))


def _strips(model: Int8Model, turns: Turns, layers: Sequence[int]) -> Loop:
    placed: list[Placed] = []
    for part, reads, write in zip(turns.parts, turns.read_steps, turns.write_steps, strict=True):
        op, layer = model.ops[part.op], layers[part.op]
        if part.kept:
            placed.append(_moved(model, op, Move(part.kept, part.shift, 0), layer))
        placed += _strip(model, op, part, dict(zip(op.inputs, reads, strict=True)), write, layer)
    return Loop(turns.times, tuple(placed))


def _moved(model: Int8Model, op: QOp, move: Move, layer: int) -> Placed:
    """Rows that are needed again, towards the front of their buffer: one after another, because they may overlap."""
    row = _row_bytes(model, op.output)
    fields = {"positions": move.count, "channels": row, "out_channels": row}
    call = Call("concat", "concat_t", fields, (op.output,), op.output, name=f"{op.name} - rows kept", kind=op.kind)
    return Placed(call, (Place(op.output, move.source * row), Place(op.output, move.target * row)), layer)


def _strip(model: Int8Model, op: QOp, part: Part, reads: dict[int, int], write: int, layer: int) -> Iterator[Placed]:
    """The calls of one operator on some rows: those that it would have on maps of so many rows."""
    tensors = list(model.tensors)
    for tensor, rows in (*((tensor, part.read) for tensor in op.inputs), (op.output, part.made)):
        tensors[tensor] = replace(tensors[tensor], shape=(1, rows, *tensors[tensor].shape[2:]))
    bottom = part.bottom if op.kind in PADDING else op.padding[0][1]
    shorter = replace(op, padding=((part.top, bottom), op.padding[1]), begin=(0, op.begin[1]))
    starts = dict(zip(op.inputs, part.read_at, strict=True))
    out_row = _row_bytes(model, op.output)
    for number, call in enumerate(lowered(replace(model, tensors=tuple(tensors)), shorter), layer):
        inputs = (Place(t, starts[t] * _row_bytes(model, t), reads[t] * _row_bytes(model, t)) for t in call.inputs)
        output = Place(call.output, part.write_at * out_row + call.output_at, write * out_row)
        yield Placed(call, (*inputs, output), number)


def _row_bytes(model: Int8Model, tensor: int) -> int:
    _, _, width, channels = model.tensors[tensor].shape
    return width * channels
