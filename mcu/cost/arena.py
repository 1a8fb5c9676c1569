"""Bytes of the TensorFlow Lite Micro arena, predicted exactly, and arena plans of our own.

The arena has two parts. The head holds the activations, placed by TFLM's greedy planner (largest first, each at the
lowest gap that is free during its lifetime) or by offsets written into the file. The tail holds TFLM's structures;
their sizes below are those of the x86-64 build that ``tflite-micro`` wheels carry, with its alignments replayed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.structure import CONVOLUTIONS, Structure, structure_of
from mcu.tflite.tflm import ArenaUse

ALIGNMENT = 16
"""TFLM aligns every activation and every persistent kernel buffer to this."""

BYTES_PER_CHANNEL = 8
"""int32 multiplier and shift that TFLM keeps for every output channel of a convolution, whatever it reads."""

Buffer = tuple[int, int, int]
"""``(bytes, first use, last use)``; uses are steps, both ends included."""

_START = 8  # allocators and planner, modulo the alignment
_FIXED = 480  # the rest of them
_PORT, _POINTER = 96, 8  # tensor of each input and output, and of the list of either
_EVAL_TENSOR = 24
_NODE = 64
_SCRATCH_HANDLE = 8  # of an operator of SCRATCH
_REQUESTS, _NOTE, _PLANNED = 200, 32, 40  # while planning: in all, per tensor of the file, per planned buffer
_REQUEST = 96  # of them for each request of scratch memory
_PREPARING = 624  # while the last convolution is prepared, beside one zero point per channel
_PARAMETERS = {
    Kind.CONV: 28, Kind.DEPTHWISE: 28, Kind.DENSE: 32, Kind.ADD: 8, Kind.CONCAT: 8, Kind.MAX_POOL: 40,
    Kind.AVG_POOL: 40, Kind.MEAN: 1, Kind.PAD: 0, Kind.PADV2: 0, Kind.RESHAPE: 36, Kind.RELU: 0, Kind.SOFTMAX: 8,
    Kind.LOGISTIC: 0, Kind.TANH: 0, Kind.HARD_SWISH: 0, Kind.LEAKY_RELU: 4, Kind.ELU: 0, Kind.MUL: 4,
    Kind.RESIZE: 2, Kind.SLICE: 24, Kind.GATHER: 8, Kind.PRELU: 0, Kind.TRANSPOSE_CONV: 20, Kind.BILINEAR: 2,
}  # fmt: skip
"""Bytes of TFLM's parsed options of each kind (TfLiteConvParams, ...)."""

_KERNEL_DATA = {
    Kind.CONV: 80, Kind.DEPTHWISE: 80, Kind.DENSE: 72, Kind.ADD: 60, Kind.CONCAT: 80, Kind.MAX_POOL: 32,
    Kind.AVG_POOL: 32, Kind.MEAN: 60, Kind.PAD: 56, Kind.PADV2: 56, Kind.RESHAPE: 0, Kind.RELU: 28, Kind.SOFTMAX: 80,
    Kind.LOGISTIC: 16, Kind.TANH: 16, Kind.HARD_SWISH: 20, Kind.LEAKY_RELU: 24, Kind.ELU: 256, Kind.MUL: 36,
    Kind.RESIZE: 0, Kind.SLICE: 84, Kind.GATHER: 20, Kind.PRELU: 28, Kind.TRANSPOSE_CONV: 88, Kind.BILINEAR: 0,
}  # fmt: skip
"""Bytes of each kernel's own data (OpDataConv, ...)."""

_PREPARED = (Kind.GATHER,)
"""Kernels that allocate their data when they are prepared, behind those of all that do so when they are made."""


SCRATCH = {Kind.MEAN: 2, Kind.TRANSPOSE_CONV: 1}
"""Buffers of int32 sums, one for each output value, that kernels ask for while they run."""


@dataclass(frozen=True)
class Plan:
    """Position of each buffer: ``offsets`` by index, ``total`` bytes in all."""

    offsets: tuple[int, ...]
    total: int


def lifetimes(structure: Structure | Int8Model) -> list[Buffer]:
    """The aligned size and lifetime of every activation tensor, then of scratch buffers, as TFLM computes them.

    Step 0 is before the first operator, when all inputs are there; step i + 1 is operator i; outputs live to the end.
    """
    if isinstance(structure, Int8Model):
        structure = structure_of(structure)
    first = [0] * len(structure.shapes)
    last = [0] * len(structure.shapes)
    for step, op in enumerate(structure.ops, 1):
        first[op.output] = last[op.output] = step
        for tensor in op.inputs:
            last[tensor] = step
    for port in structure.outputs:
        last[port.tensor] = len(structure.ops)
    sizes = [_aligned(_elements(shape)) for shape in structure.shapes]
    buffers = list(zip(sizes, first, last, strict=True))
    for step, op in enumerate(structure.ops, 1):
        sums = _aligned(4 * _elements(structure.shapes[op.output]))
        buffers += [(sums, step, step)] * SCRATCH.get(op.kind, 0)
    return buffers


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _elements(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def peak_live(buffers: Sequence[Buffer]) -> int:
    """The most bytes alive at any step: a lower bound on the size of every plan."""
    steps = {first for _, first, _ in buffers}
    return max((sum(size for size, first, last in buffers if first <= step <= last) for step in steps), default=0)


def place(buffers: Sequence[Buffer], order: Sequence[int], fixed: Mapping[int, int] | None = None) -> Plan:
    """First fit: each buffer in turn at the lowest offset free during its lifetime, or where ``fixed`` says."""
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    total = 0
    for index in order:
        size, first, last = buffers[index]
        offset = 0
        if fixed and index in fixed:
            offset = fixed[index]
        else:
            for low, high, begin, end in placed:
                if begin <= last and first <= end:
                    if low - offset >= size:
                        break
                    if high > offset:
                        offset = high
        offsets[index] = offset
        insort(placed, (offset, offset + size, first, last), key=_offset)
        total = max(total, offset + size)
    return Plan(tuple(offsets), total)


_offset = itemgetter(0)


def greedy_plan(buffers: Sequence[Buffer]) -> Plan:
    """TFLM's GreedyMemoryPlanner: largest first, the later of equal ones first."""
    return place(buffers, sorted(range(len(buffers)), key=lambda index: (-buffers[index][0], -index)))


def plan_around(buffers: Sequence[Buffer], offsets: Mapping[int, int]) -> Plan:
    """TFLM's plan when the file fixes some offsets: those first, the rest greedily around them."""
    rest = [index for index in range(len(buffers)) if index not in offsets]
    return place(buffers, [*offsets, *sorted(rest, key=lambda index: (-buffers[index][0], -index))], offsets)


def plan_activations(model: Structure | Int8Model) -> Plan:
    """The plan TFLM makes for the activation tensors of a model."""
    return greedy_plan(lifetimes(model))


def predict_persistent(structure: Structure) -> int:
    """Bytes of the arena's tail: TFLM's structures for this many tensors, operators and channels."""
    used = _START

    def allocate(size: int, alignment: int) -> None:
        nonlocal used
        used = -(-(used + size) // alignment) * alignment

    allocate(_EVAL_TENSOR * count_tensors(structure), 8)
    allocate(_NODE * len(structure.ops), 8)
    for op in structure.ops:
        if _PARAMETERS[op.kind]:
            allocate(_PARAMETERS[op.kind], 4 if _PARAMETERS[op.kind] >= 4 else 1)
    for late in (False, True):
        for op in structure.ops:
            if _KERNEL_DATA[op.kind] and late == (op.kind in _PREPARED):
                allocate(_KERNEL_DATA[op.kind], ALIGNMENT)
    for op in structure.ops:
        if op.kind in CONVOLUTIONS:
            channels = structure.shapes[op.output][-1]
            allocate(BYTES_PER_CHANNEL // 2 * channels, ALIGNMENT)  # multipliers
            allocate(BYTES_PER_CHANNEL // 2 * channels, ALIGNMENT)  # shifts
    return used + _FIXED + _after_planning(structure)


def _after_planning(structure: Structure) -> int:
    """The part of the tail that is allocated last: inputs, outputs, handles of scratch memory."""
    inputs, outputs = len(structure.inputs), len(structure.outputs)
    handles = _SCRATCH_HANDLE * sum(op.kind in SCRATCH for op in structure.ops)
    lists = _aligned(handles + _POINTER * inputs) + _aligned(_POINTER * outputs)  # the first two lie side by side
    return _PORT * (inputs + outputs) + lists


def count_tensors(structure: Structure) -> int:
    """Tensors in the file our writer makes: activations, weights, biases, values of PADV2, orders of GATHER, slopes
    of PRELU, structural constants."""
    constants = {constant for op in structure.ops for constant in structure.constants(op)}
    weighted = sum(1 + op.bias for op in structure.ops if op.kind in CONVOLUTIONS)
    own = sum(op.kind in (Kind.PADV2, Kind.GATHER, Kind.PRELU) for op in structure.ops)
    return len(structure.shapes) + weighted + own + len(constants)


def predict_arena(model: Structure | Int8Model, plan: Plan | None = None) -> ArenaUse:
    """The arena TFLM will use for the file our writer makes.

    Args:
        model: a structure (the pruning job's light form) or a finished model.
        plan: the plan written into the file, if it is not TFLM's own.
    """
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    activations = (plan or plan_activations(structure)).total
    persistent = predict_persistent(structure)
    return ArenaUse(activations + persistent, activations, persistent)


def sufficient_arena(model: Structure | Int8Model, plan: Plan | None = None) -> int:
    """Bytes of arena with which TFLM starts, on the build that is predicted here.

    At most 32 more than it needs with one input and one output; with several some hundred where the model is tiny.
    While TFLM plans, its notes on every tensor take the place the activations will have. With activations under
    about 2 KB these notes are the larger, and an arena of ``predict_arena(model).total`` bytes is refused.
    """
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    use = predict_arena(structure, plan)
    asked = [SCRATCH[op.kind] for op in structure.ops if op.kind in SCRATCH]
    notes = _aligned(_REQUESTS + _REQUEST * sum(asked) + _NOTE * count_tensors(structure))
    notes += ALIGNMENT * (len(asked) % 2) + _PLANNED * len(lifetimes(structure))
    channels = [structure.shapes[op.output][-1] for op in structure.ops if op.kind in CONVOLUTIONS]
    preparing = _aligned(_PREPARING + 4 * channels[-1]) if channels else 0
    return use.persistent + max(use.activations, _aligned(notes - _after_planning(structure)), preparing + ALIGNMENT)


def live_memory(model: Int8Model) -> list[int]:
    """Bytes of activations alive while each operator runs: the memory-over-time figure."""
    spans = lifetimes(model)[: len(model.tensors)]
    sizes = [tensor.bytes for tensor in model.tensors]
    return [
        sum(size for size, (_, first, last) in zip(sizes, spans, strict=True) if first <= step <= last)
        for step in range(1, len(model.ops) + 1)
    ]
