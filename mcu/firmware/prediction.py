"""Flash and RAM of the firmware, predicted from shapes alone: what pruning compares with the budget.

flash = start-up, library and application + code of the kernels that occur + for each call its description and its step
in the program + weights and 9 bytes an output channel (bias, multiplier, shift), every table in whole words.
RAM = arena + stack. The code and stack figures are those of one version of GCC (``code_sizes``); another moves
them by a few percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from mcu.cost.firmware_kernels import convolution_kernel, depthwise_kernel, program_kernels
from mcu.cost.firmware_memory import FirmwarePlan
from mcu.cost.firmware_program import MOVE, STRIPS, Steps, tables_of
from mcu.cost.stage import Forms
from mcu.firmware.code_sizes import CODE, CoreCode
from mcu.firmware.cores import Core, find_core
from mcu.firmware.toolchain import Architecture
from mcu.graph.kinds import Kind
from mcu.int8.lookup import TABLES
from mcu.int8.model import Int8Model, QOp
from mcu.int8.scaling import exponential_table
from mcu.int8.structure import CONVOLUTIONS, OpForm, Structure, structure_of

MORE_INPUT = 24
"""Instructions that write one more input: a function of the interface and its call."""

WHOLE = Forms(1, 1, 0, 0)
APPLICATION_RAM = 4
"""The variable ``main.c`` keeps its decision in."""

MEMBERS = {
    "convolution": (4, 0, 18),
    "pointwise": (4, 0, 18),
    "narrow": (4, 0, 18),
    "depthwise": (4, 0, 18),
    "depthwise_multiplied": (4, 0, 18),
    "max_pool": (0, 0, 13),
    "average_pool": (0, 0, 13),
    "mean": (2, 1, 3),
    "add": (1, 3, 8),
    "relu": (1, 1, 5),
    "pad": (0, 0, 8),
    "concat": (3, 0, 0),
    "softmax": (4, 0, 0),
    "lookup": (2, 0, 0),
    "multiply": (2, 1, 6),
    "grouped": (4, 0, 19),
    "enlarge": (0, 0, 5),
    "slice": (0, 0, 8),
    "gather": (2, 0, 2),
    "transposed": (4, 0, 18),
    "prelu": (3, 2, 5),
    "bilinear": (0, 2, 7),
}
"""Members of the layer structs in kernels.h, by kernel: pointers and counts, of 32 bits, of 16 bits."""

CHANNEL_TABLES = (4, 4, 1)  # bias, multiplier, shift
CODES = 256  # a table of int8 codes
ORDER = 2  # number of a channel
SOFTMAX_TABLE = 4 * 256  # at most: small input scales need it all

_PLAIN = {
    Kind.ADD: "add",
    Kind.CONCAT: "concat",
    Kind.MAX_POOL: "max_pool",
    Kind.AVG_POOL: "average_pool",
    Kind.MEAN: "mean",
    Kind.PAD: "pad",
    Kind.PADV2: "pad",
    Kind.RELU: "relu",
    Kind.SOFTMAX: "softmax",
    Kind.MUL: "multiply",
    Kind.RESIZE: "enlarge",
    Kind.SLICE: "slice",
    Kind.GATHER: "gather",
    Kind.TRANSPOSE_CONV: "transposed",
    Kind.PRELU: "prelu",
    Kind.BILINEAR: "bilinear",
    **dict.fromkeys(TABLES, "lookup"),
}


@dataclass(frozen=True)
class FirmwarePrediction:
    """Bytes: ``flash``, and ``ram`` = ``arena`` + ``stack`` + the application's own variable."""

    flash: int
    arena: int
    stack: int

    @property
    def ram(self) -> int:
        """Static RAM and stack."""
        return self.arena + self.stack + APPLICATION_RAM


def predict_firmware(model: Structure | Int8Model, core: str, plan: FirmwarePlan) -> FirmwarePrediction:
    """What the firmware of a model will take on a core.

    Args:
        model: a structure (the pruning job's light form, shapes only) or a finished model.
        core: as in the device catalogue, such as ``cortex-m4f``.
        plan: its memory, and what runs strip by strip.

    Raises:
        InputError: if firmware cannot be built for the core.
    """
    target = find_core(core)
    code, architecture = CODE[target.name], target.architecture
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    tables = tables_of(structure, plan, _kernels(structure))
    flash = code.base + MORE_INPUT * (len(structure.inputs) - 1)
    flash += constant_bytes(model, plan, architecture)
    flash += code.flash_of(frozenset[str]().union(*(steps.kernels for steps in tables)))
    return FirmwarePrediction(flash=_whole(flash, architecture), arena=plan.total, stack=_stack(tables, target))


def constant_bytes(model: Structure | Int8Model, plan: FirmwarePlan, architecture: Architecture) -> int:
    """Bytes of a model's tables, layer descriptions and steps."""
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    kernels, partial = _kernels(structure), plan.strips or plan.stream
    forms = {} if partial is None else partial.forms
    size = _step_bytes(tables_of(structure, plan, kernels), architecture)
    for index, op in enumerate(structure.ops):
        if op.kind is not Kind.RESHAPE:
            form, calls = forms.get(index, WHOLE), len(op.inputs) if op.kind is Kind.CONCAT else 1
            size += _tables(structure, op, architecture)
            size += calls * form.descriptions * description_bytes(kernels[index], architecture)
            size += form.move_descriptions * description_bytes(MOVE, architecture)
    if plan.stream is not None and plan.stream.input in plan.stream.moves:
        size += description_bytes(MOVE, architecture)
    if isinstance(model, Int8Model):
        size -= sum(SOFTMAX_TABLE - _exponentials(model, op) for op in model.ops if op.kind is Kind.SOFTMAX)
    return size


def _kernels(structure: Structure) -> list[str]:
    """The kernel of every operator; those that need none have no name."""
    needed = [op.kind is not Kind.RESHAPE for op in structure.ops]
    chosen = iter(
        program_kernels(
            [_kernel(structure, op) for op, is_needed in zip(structure.ops, needed, strict=True) if is_needed]
        )
    )
    return [next(chosen) if is_needed else "" for is_needed in needed]


def _step_bytes(tables: Sequence[Steps], architecture: Architecture) -> int:
    """Bytes of the steps of a program, and of its loops over strips: step_t; strip_step_t, move_t and strips_t."""
    program, *loops = tables
    members = 5 * program.count + sum(6 * loop.count + 3 * loop.moves + 3 for loop in loops)
    return architecture.pointer * members


def _stack(tables: Sequence[Steps], core: Core) -> int:
    """Bytes on the deepest path."""
    code = CODE[core.name]
    program, *loops = tables
    below = [_deepest(program, code), *(code.kernels[STRIPS].stack + _deepest(loop, code) for loop in loops)]
    step = core.architecture.stack_alignment
    return -(-(code.stack + max(below)) // step) * step


def _deepest(steps: Steps, code: CoreCode) -> int:
    return max((code.kernels[kernel].stack for kernel in steps.kernels), default=0)


def _exponentials(model: Int8Model, op: QOp) -> int:
    return 4 * len(exponential_table(model.tensors[op.inputs[0]].scale))


def description_bytes(kernel: str, architecture: Architecture) -> int:
    """Bytes of a kernel's layer struct."""
    pointers, words, halves = MEMBERS[kernel]
    return _whole(architecture.pointer * pointers + 4 * words + 2 * halves, architecture)


def _kernel(structure: Structure, op: OpForm) -> str:
    if op.kind is Kind.DEPTHWISE:
        return depthwise_kernel(op, structure.shapes[op.inputs[0]][-1], structure.shapes[op.output][-1])
    if op.kind in (Kind.CONV, Kind.DENSE):
        return "grouped" if op.groups > 1 else convolution_kernel(op, structure.shapes[op.inputs[0]][-1])
    return _PLAIN[op.kind]


def _tables(structure: Structure, op: OpForm, architecture: Architecture) -> int:
    if op.kind is Kind.SOFTMAX:
        return SOFTMAX_TABLE
    if op.kind in TABLES:
        return CODES
    if op.kind is Kind.GATHER:
        return _whole(ORDER * structure.shapes[op.output][-1], architecture)
    if op.kind is Kind.PRELU:
        return _whole(structure.shapes[op.output][-1], architecture)
    if op.kind not in CONVOLUTIONS:
        return 0
    source, channels = structure.shapes[op.inputs[0]], structure.shapes[op.output][-1]
    if op.kind is Kind.DENSE:
        weights = prod(source) * channels
    elif op.kind is Kind.DEPTHWISE:
        weights = prod(op.kernel) * channels
    else:
        weights = prod(op.kernel) * source[-1] // op.groups * channels
    return sum(_whole(size, architecture) for size in (weights, *(size * channels for size in CHANNEL_TABLES)))


def _whole(size: int, architecture: Architecture) -> int:
    return -(-size // architecture.alignment) * architecture.alignment
