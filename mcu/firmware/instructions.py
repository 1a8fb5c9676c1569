"""Instructions of one inference, predicted: how often each loop of each kernel runs, times its cost on the core.

How often follows from the shapes, exactly. The costs are fitted to counts of the emulator, by
``python benchmarks/mcu/instruction_costs.py``, which also says how far off they are on networks they have not seen. Of
an AVR the emulator counts cycles, so these are predicted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mcu.cost.firmware_memory import FirmwarePlan
from mcu.errors import InputError
from mcu.firmware.calls import Call
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
    "avr6": "avr5",
}
"""Cores that execute the instructions of another, whose costs they share; a call takes an ATmega2560 a cycle more."""


@dataclass(frozen=True)
class _Width:
    """How many products the inner loops of a core take at once.

    Attributes:
        block: of a run of a convolution, what is left one by one; ``predicated``: or in one more turn.
        single: channels of a convolution at one position; ``raised``: offset of the input that costs no more.
        positions: of a convolution that are taken at once, and ``channels`` then; ``vector``: values of a run that a
            register keeps.
        lanes: channels of a depthwise convolution; ``twice``: whether at two positions; ``unrolled``: whether its rows
            of three taps are.
    """

    block: int = 1
    single: int = 2
    raised: int | None = None
    positions: int = 2
    channels: int = 2
    vector: int = 0
    lanes: int = 4
    twice: bool = False
    unrolled: bool = False
    predicated: bool = False


_DSP = _Width(block=4, unrolled=True)
_AVR = _Width(single=1, raised=128, positions=1, lanes=1)
_WIDTHS = {
    "cortex-m0+": _Width(positions=1),
    **dict.fromkeys(("cortex-m4f", "cortex-m7f", "cortex-m33"), _DSP),
    "avr5": _AVR,
    "cortex-m55": _Width(block=16, single=4, positions=4, channels=1, vector=16, lanes=8, twice=True, predicated=True),
}


def predict_instructions(model: Int8Model, core: Core, plan: FirmwarePlan) -> int:
    """Instructions of one inference, or one step of a stream, on a core.

    Raises:
        InputError: if the core lacks instructions that the costs are for, or the kernels cannot express an operator.
    """
    if core.flags != CORES[core.name].flags:
        raise InputError(f"instructions are predicted for {core.name} as {' '.join(CORES[core.name].flags)} only")
    costs = _costs()[SAME_CODE.get(core.name, core.name)]
    total = 0.0
    for loop in program_of(model, plan.strips, plan.stream):
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
    rows, _ = _windows(fields)
    single, several = _split(fields, width.positions)
    alone = _runs(fields, single, -(-fields["out_c"] // width.single), width)
    at_once = _runs(fields, several, -(-fields["out_c"] // width.channels), width)
    return (len(rows), *alone, *at_once)


_Windows = list[tuple[list[int], list[int]]]
"""Products of rows and columns of windows: the taps of each."""


def _runs(fields: Mapping[str, int], windows: _Windows, turns: int, width: _Width) -> Counts:
    """Positions, and what each of ``turns`` over the channels takes: positions, bands, runs, blocks and rests."""
    apart = fields["dilation_w"] > 1  # tap by tap
    counts = [0, 0, 0, 0, 0, 0]
    for rows, columns in windows:
        height, positions = sum(rows), len(rows) * len(columns)
        lengths = [fields["in_c"]] * sum(columns) if apart else [taps * fields["in_c"] for taps in columns]
        steps = height - (len(rows) if width.predicated else 0)  # there the first band is in the channel's cost
        bands = steps * len(columns) if apart else 0
        blocks, rest = (sum(length // width.block for length in lengths), sum(_rest(n, width) for n in lengths))
        if width.raised is not None and fields["in_offset"] not in (0, width.raised):
            rest = blocks  # the weights are summed as well
        inner = (positions, bands, height * len(lengths), height * blocks, height * rest)
        counts = [total + count for total, count in zip(counts, (positions, *(turns * n for n in inner)), strict=True)]
    return tuple(counts)


def _rest(length: int, width: _Width) -> int:
    rest = length % width.block
    return (1 if rest else 0) if width.predicated else rest


def _split(fields: Mapping[str, int], positions: int) -> tuple[_Windows, _Windows]:
    """Windows that are taken alone, and the first of those that are taken at once: in columns, else in rows."""
    rows, columns = _windows(fields)
    single_rows, several_rows = _groups(fields, "h", "pad_top", rows, positions)
    single, several = _groups(fields, "w", "pad_left", columns, positions)
    return [(single_rows, single)], [(several_rows, columns), (single_rows, several)]


def _groups(fields: Mapping[str, int], side: str, pad: str, taps: list[int], size: int) -> tuple[list[int], list[int]]:
    """Taps of the windows along an axis that are taken alone, and of the first of each group."""
    stride, extent = fields[f"stride_{side}"], (fields[f"kernel_{side}"] - 1) * fields[f"dilation_{side}"] + 1
    alone: list[int] = []
    groups: list[int] = []
    at = 0
    while at < len(taps):
        origin = at * stride - fields[pad]
        inside = origin >= 0 and origin + (size - 1) * stride + extent <= fields[f"in_{side}"]
        grouped = 1 < size <= len(taps) - at and inside
        (groups if grouped else alone).append(taps[at])
        at += size if grouped else 1
    return alone, groups


def _one_run(times: int, positions: int, size: int, out_c: int, width: _Width) -> list[int]:
    """Of ``times`` calls for some positions each: positions, channels, blocks and rests, of single positions and of
    several at once; of runs of one vector that is kept groups of positions, of these channels at once; and of two."""
    kept = [0, 0, 0, 0]
    if size == width.vector and positions >= 4 and out_c % 2 == 0:
        groups = times * -(-positions // 4)
        kept[:2] = groups, groups * (out_c // 2)
    elif width.vector < size <= 2 * width.vector and positions >= 2 and out_c >= 4:
        groups = times * -(-positions // 2)
        kept[2:] = groups, groups * -(-out_c // 4)
    if sum(kept):
        return [*[0] * 8, *kept]
    several = positions // width.positions if width.positions > 1 else 0
    counts = []
    for at, channels in ((positions - several * width.positions, width.single), (several, width.channels)):
        turns = times * at * -(-out_c // channels)
        counts += [times * at, turns, turns * (size // width.block), turns * _rest(size, width)]
    return [*counts, *kept]


def _pointwise(fields: Mapping[str, int], width: _Width) -> Counts:
    return fields["out_h"], *_one_run(fields["out_h"], fields["out_w"], fields["in_c"], fields["out_c"], width)


def _narrow(fields: Mapping[str, int], width: _Width) -> Counts:
    """Rows, positions, rows of taps and their values that are copied, values that are set first, then as pointwise."""
    rows, columns = _windows(fields)
    size, in_c = fields["kernel_h"] * fields["kernel_w"] * fields["in_c"], fields["in_c"]
    whole_rows = sum(taps == fields["kernel_h"] for taps in rows)
    whole = whole_rows * sum(taps == fields["kernel_w"] for taps in columns)
    positions = len(rows) * len(columns)
    copied = (sum(rows) * len(columns), sum(rows) * sum(columns) * in_c)
    together, left = divmod(positions, width.positions)
    runs = _one_run(together, width.positions, size, fields["out_c"], width)
    last = _one_run(1, left, size, fields["out_c"], width)
    products = (a + b for a, b in zip(runs, last, strict=True))
    return (len(rows), positions, *copied, (positions - whole) * size, *products)


def _depthwise(fields: Mapping[str, int], width: _Width) -> Counts:
    """Rows, runs of positions; positions, blocks of channels, unrolled rows of taps, others, their taps, alone and at
    two; of channels one by one positions, unrolled rows, others, their taps; channels that are predicated; channels one
    by one of runs of positions."""
    rows, _ = _windows(fields)
    channels, few = fields["out_c"], fields["out_c"] < width.lanes
    if width.predicated and channels == 1:
        return _only_channel(fields, width)
    several_at_once = 2 if width.twice and not few else 1
    windows = _split(fields, several_at_once)
    single, blocks = (0, -(-channels // width.lanes)) if width.predicated else _apart(channels, width.lanes)
    runs = _runs_of_positions(fields, several_at_once)
    counts = [len(rows), runs]
    for own in windows:
        counts += _taps_of(own, blocks, width.unrolled) if blocks else [0, 0, 0, 0, 0]
    predicated = len(rows) * fields["out_w"] * channels if width.predicated and few else 0
    alone = [a + b for a, b in zip(*(_taps_of(own, single, width.unrolled)[1:] for own in windows), strict=True)]
    return (*counts, *alone, predicated, runs * single)


def _only_channel(fields: Mapping[str, int], width: _Width) -> Counts:
    """The same of a single channel, four positions at a time in lanes."""
    rows, columns = _windows(fields)
    whole = _whole_columns(fields)
    groups = [taps for at, taps in enumerate(columns) if at not in whole] + [fields["kernel_w"]] * -(-len(whole) // 4)
    alone = _taps_of([(rows, groups)], 1, width.unrolled)[1:]
    return (len(rows), _runs_of_positions(fields, 1), *[0] * 10, *alone, 0, 0)


def _apart(channels: int, lanes: int) -> tuple[int, int]:
    """Channels that are taken one by one, and blocks."""
    if channels < lanes:
        return channels, 0
    return (1, channels // lanes) if channels % lanes == 1 else (0, -(-channels // lanes))


def _taps_of(windows: _Windows, turns: int, unrolled: bool) -> list[int]:
    """Positions; and of each of ``turns`` over the channels positions, unrolled rows of taps, others, their taps."""
    positions = sum(len(high) * len(wide) for high, wide in windows)
    at_once = sum(sum(high) * sum(taps == UNROLLED_TAPS for taps in wide) for high, wide in windows) if unrolled else 0
    bands = sum(sum(high) * len(wide) for high, wide in windows)
    looped = sum(sum(high) * sum(wide) for high, wide in windows) - UNROLLED_TAPS * at_once
    return [positions, *(turns * n for n in (positions, at_once, bands - at_once, looped))]


def _runs_of_positions(fields: Mapping[str, int], several: int) -> int:
    """Calls for runs of positions whose windows lie inside, and for single ones."""
    rows, columns = _windows(fields)
    whole = len(_whole_columns(fields))
    alone, groups = _groups(fields, "h", "pad_top", rows, several)
    odd = several > 1 and whole > 1 and whole % 2 == 1
    at_a_time = len(columns) - whole + (whole > 0)
    return (len(alone) + len(groups)) * at_a_time + odd * len(alone)


def _whole_columns(fields: Mapping[str, int]) -> list[int]:
    """Positions of a row whose windows' columns all lie inside."""
    stride, extent = fields["stride_w"], (fields["kernel_w"] - 1) * fields["dilation_w"] + 1
    starts = [at * stride - fields["pad_left"] for at in range(fields["out_w"])]
    return [at for at, start in enumerate(starts) if start >= 0 and start + extent <= fields["in_w"]]


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
    "narrow": _narrow,
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
