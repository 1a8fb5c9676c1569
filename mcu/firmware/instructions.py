"""Instructions of one inference, predicted: how often each loop of each kernel runs, times its cost on the core.

How often follows from the shapes, exactly. The costs are fitted to counts of the emulator, by
``python benchmarks/mcu/instruction_costs.py``, which also says how far off they are on networks they have not seen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mcu.cost.firmware_memory import plan_memory
from mcu.errors import InputError
from mcu.firmware.calls import DEPTHWISE_LANES, Call
from mcu.firmware.cores import CORES, Core
from mcu.firmware.program import program_of
from mcu.int8.model import Int8Model

Counts = tuple[int, ...]
UNROLLED_TAPS = 3
"""Of depthwise.c."""
COSTS = "instruction_costs.toml"
SAME_CODE = {
    "cortex-m0": "cortex-m0+",
    "cortex-m4": "cortex-m4f",
    "cortex-m7": "cortex-m7f",
    "riscv32imac": "riscv32imc",
}
"""Cores that execute the instructions of another, whose costs they share."""


@dataclass(frozen=True)
class _Width:
    """How many products the inner loops of a core take at once.

    Attributes:
        block: of a run of a convolution, what is left one by one; ``predicated``: or in one more turn.
        pairs: whether two windows are taken at once.
        lanes: channels of a depthwise convolution; ``unrolled``: whether its rows of three taps are.
    """

    block: int = 1
    pairs: bool = True
    lanes: int = DEPTHWISE_LANES
    unrolled: bool = False
    predicated: bool = False


_DSP = _Width(block=4, unrolled=True)
_WIDTHS = {
    "cortex-m0+": _Width(pairs=False),
    **dict.fromkeys(("cortex-m4f", "cortex-m7f", "cortex-m33"), _DSP),
    "cortex-m55": _Width(block=16, lanes=8, predicated=True),
}


def predict_instructions(model: Int8Model, core: Core, by_strips: bool = True) -> int:
    """Instructions of one inference on a core; ``by_strips`` as in ``plan_memory``.

    Raises:
        InputError: if the core lacks instructions that the costs are for, or the kernels cannot express an operator.
    """
    if core.flags != CORES[core.name].flags:
        raise InputError(f"instructions are predicted for {core.name} as {' '.join(CORES[core.name].flags)} only")
    costs = _costs()[SAME_CODE.get(core.name, core.name)]
    total = 0.0
    for loop in program_of(model, plan_memory(model, by_strips).strips):
        for placed in loop.calls:
            counts, own = loop_counts(placed.call, core.name), costs[placed.call.function]
            total += loop.times * sum(cost * count for cost, count in zip(own, counts, strict=True))
    return round(total)


def loop_counts(call: Call, core: str) -> Counts:
    """How often the loops of a kernel run, outermost first, for the call on a core; the first is the call itself."""
    return (1, *_COUNTERS[call.function](call.fields, _WIDTHS.get(SAME_CODE.get(core, core), _Width())))


@cache
def _costs() -> Mapping[str, Mapping[str, tuple[float, ...]]]:
    return tomllib.loads((files("mcu.firmware") / COSTS).read_text("ascii"))


def _taps(fields: Mapping[str, int], side: str, pad: str) -> list[int]:
    """Taps inside the input of every window along an axis, ``h`` or ``w``."""
    dilation = fields.get(f"dilation_{side}", 1)
    taps = []
    for at in range(fields[f"out_{side}"]):
        origin = at * fields[f"stride_{side}"] - fields[pad]
        first = -(origin // dilation) if origin < 0 else 0
        end = min(fields[f"kernel_{side}"], max(-((origin - fields[f"in_{side}"]) // dilation), 0))
        taps.append(max(end - first, 0))
    return taps


def _windows(fields: Mapping[str, int]) -> tuple[list[int], list[int]]:
    return _taps(fields, "h", "pad_top"), _taps(fields, "w", "pad_left")


def _convolution(fields: Mapping[str, int], width: _Width) -> Counts:
    rows, columns = _windows(fields)
    apart = fields["dilation_w"] > 1  # tap by tap
    single, paired = _split(fields, columns) if width.pairs else (columns, [])
    halves = -(-fields["out_c"] // 2)
    counts: list[int] = [len(rows)]
    for group in (single, paired):
        positions, height = len(rows) * len(group), sum(rows)
        runs = height * (sum(group) if apart else len(group))
        lengths = [fields["in_c"]] * sum(group) if apart else [taps * fields["in_c"] for taps in group]
        blocks = height * sum(length // width.block for length in lengths)
        rest = height * sum(_rest(length, width) for length in lengths)
        bands = height * len(group) if apart else 0
        counts += [positions, *(halves * count for count in (positions, bands, runs, blocks, rest))]
    return tuple(counts)


def _rest(length: int, width: _Width) -> int:
    rest = length % width.block
    return (1 if rest else 0) if width.predicated else rest


def _split(fields: Mapping[str, int], columns: list[int]) -> tuple[list[int], list[int]]:
    """Taps of the windows that are taken alone, and of the first of each pair."""
    single: list[int] = []
    paired: list[int] = []
    reach = fields["stride_w"] + (fields["kernel_w"] - 1) * fields["dilation_w"]
    x = 0
    while x < len(columns):
        left = x * fields["stride_w"] - fields["pad_left"]
        both = x + 1 < len(columns) and left >= 0 and left + reach < fields["in_w"]
        (paired if both else single).append(columns[x])
        x += 2 if both else 1
    return single, paired


def _pointwise(fields: Mapping[str, int], width: _Width) -> Counts:
    rows, size = fields["out_h"], fields["in_c"]
    paired = 0 if width.predicated else rows * (fields["out_w"] // 2)
    turns = -(-fields["out_c"] // (4 if width.predicated else 2))
    counts = [rows]
    for positions in (rows * fields["out_w"] - 2 * paired, paired):
        inner = positions * turns
        counts += [positions, inner, inner * (size // width.block), inner * _rest(size, width)]
    return tuple(counts)


def _depthwise(fields: Mapping[str, int], width: _Width) -> Counts:
    rows, columns = _windows(fields)
    looped = [taps for taps in columns if not (width.unrolled and taps == UNROLLED_TAPS)]
    positions, blocks = len(rows) * len(columns), -(-fields["out_c"] // width.lanes)
    bands = sum(rows) * blocks
    return (
        len(rows),
        positions,
        positions * blocks,
        bands * (len(columns) - len(looped)),
        bands * len(looped),
        bands * sum(looped),
        positions * (fields["out_c"] if width.predicated and fields["out_c"] < width.lanes else 0),
    )


def _each_output(fields: Mapping[str, int], width: _Width) -> Counts:
    """Loops over rows, positions, channels, rows of taps, taps."""
    rows, columns = _windows(fields)
    channels = fields.get("out_c", fields.get("channels", 0))
    outputs = len(rows) * len(columns) * channels
    height = sum(rows) * channels
    return len(rows), len(rows) * len(columns), outputs, height * len(columns), height * sum(columns)


def _grouped(fields: Mapping[str, int], width: _Width) -> Counts:
    inner = {name.removeprefix("layer."): value for name, value in fields.items()}
    counts = _each_output(inner, width)
    return (*counts, counts[-1] * (inner["in_c"] // inner["groups"]))


def _transposed(fields: Mapping[str, int], width: _Width) -> Counts:
    """Loops over rows, positions, channels, rows of taps, taps, and products of the taps that meet a value."""
    tried, met = [], []
    for side, pad in (("h", "pad_top"), ("w", "pad_left")):
        stride, kernel = fields[f"stride_{side}"], fields[f"kernel_{side}"]
        reads = [
            [at - k for k in range((place + fields[pad]) % stride, kernel, stride) if at >= k]
            for place in range(fields[f"out_{side}"])
            for at in [place + fields[pad]]
        ]
        tried.append(sum(map(len, reads)))
        met.append(sum(place // stride < fields[f"in_{side}"] for own in reads for place in own))
    outputs = fields["out_h"] * fields["out_w"] * fields["out_c"]
    taps = tried[0] * tried[1] * fields["out_c"]
    return (
        fields["out_h"],
        fields["out_h"] * fields["out_w"],
        outputs,
        tried[0] * fields["out_w"] * fields["out_c"],
        taps,
        met[0] * met[1] * fields["out_c"],
        met[0] * met[1] * fields["out_c"] * fields["in_c"],
    )


def _bilinear(fields: Mapping[str, int], width: _Width) -> Counts:
    positions = fields["out_h"] * fields["out_w"]
    return fields["out_h"], positions, positions * fields["channels"]


def _mean(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["channels"], fields["channels"] * fields["positions"]


def _size(fields: Mapping[str, int], width: _Width) -> Counts:
    return (fields["size"],)


def _multiply(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["size"] // fields["period"], fields["size"]


def _pad(fields: Mapping[str, int], width: _Width) -> Counts:
    across = fields["left"] + fields["right"]
    row = (fields["in_w"] + across) * fields["channels"]
    set_bytes = (fields["top"] + fields["bottom"]) * row + fields["in_h"] * across * fields["channels"]
    return fields["in_h"], set_bytes, fields["in_h"] * fields["in_w"] * fields["channels"]


def _concat(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["positions"], fields["positions"] * fields["channels"]


def _softmax(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["rows"], fields["rows"] * fields["classes"]


def _enlarge(fields: Mapping[str, int], width: _Width) -> Counts:
    height = fields["in_h"] * fields["down"]
    positions = height * fields["in_w"] * fields["right"]
    return height, positions, positions * fields["channels"]


def _slice(fields: Mapping[str, int], width: _Width) -> Counts:
    positions = fields["out_h"] * fields["out_w"]
    return fields["out_h"], positions, positions * fields["channels"]


def _gather(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["positions"], fields["positions"] * fields["channels"]


_COUNTERS: Mapping[str, Callable[[Mapping[str, int], _Width], Counts]] = {
    "convolution": _convolution,
    "pointwise": _pointwise,
    "depthwise": _depthwise,
    "depthwise_multiplied": _each_output,
    "max_pool": _each_output,
    "average_pool": _each_output,
    "mean": _mean,
    "add": _size,
    "relu": _size,
    "pad": _pad,
    "concat": _concat,
    "softmax": _softmax,
    "lookup": _size,
    "multiply": _multiply,
    "grouped": _grouped,
    "enlarge": _enlarge,
    "slice": _slice,
    "gather": _gather,
    "transposed": _transposed,
    "prelu": _multiply,
    "bilinear": _bilinear,
}
