"""Every operator of an int8 model as a call of a C kernel with its constant tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mcu.cost.firmware_kernels import ONE_RUN, convolution_kernel, depthwise_kernel, program_kernels
from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind
from mcu.int8.fixed_point import interpolation, quantise_multiplier
from mcu.int8.lookup import TABLES, table_of
from mcu.int8.model import Int8Model, QOp, groups_of, op_macs
from mcu.int8.scaling import (
    ADD_BITS,
    activation_range,
    conv_multipliers,
    dense_multipliers,
    exponential_table,
    mean_multiplier,
    prelu_multipliers,
    product_multiplier,
    ratio,
    sum_multipliers,
)

INT16_MAX = 2**15 - 1
INT32_MAX = 2**31 - 1
LARGEST_SUM = 2**30
SPREAD = 255  # greatest distance of a code from its zero point
WORDS = frozenset({
    "size", "multiplier", "multiplier_a", "multiplier_b", "multiplier_below", "scale_h", "scale_w", "out_multiplier",
    "positions", "count", "rows", "classes", "period",
})  # fmt: skip
"""Members of the C structs that are int32; all others are int16."""

SOFTMAX_CLASSES = 511  # more overflow the accumulator TensorFlow Lite Micro keeps the sum in


@dataclass(frozen=True)
class Table:
    """A constant array of a call: field of the layer's struct, C element type, values."""

    field: str
    ctype: str
    values: np.ndarray


@dataclass(frozen=True)
class Call:
    """One kernel call.

    Attributes:
        function: the C kernel.
        struct: C type of its layer description.
        fields: members of the description, by name.
        inputs: tensors it reads, ``output`` the one it writes, from ``output_at`` bytes on.
        macs: multiply-accumulates.
        name: path of the layer it came from.
    """

    function: str
    struct: str
    fields: dict[str, int]
    inputs: tuple[int, ...]
    output: int
    tables: tuple[Table, ...] = ()
    output_at: int = 0
    macs: int = 0
    name: str = ""
    kind: Kind = Kind.CONV


def calls_of(model: Int8Model) -> tuple[Call, ...]:
    """All calls on whole tensors in execution order; a reshape needs none, a concatenation one for each input.

    Raises:
        InputError: if the kernels cannot express an operator exactly.
    """
    calls = [call for op in model.ops for call in lowered(model, op)]
    kernels = program_kernels([call.function for call in calls])
    return tuple(with_kernel(call, kernel) for call, kernel in zip(calls, kernels, strict=True))


def lowered(model: Int8Model, op: QOp) -> list[Call]:
    """The calls of one operator, with the kernel that it would have on its own. Errors as ``calls_of``."""
    return [replace(call, kind=op.kind, name=op.name) for call in _LOWERINGS[op.kind](model, op)]


def with_kernel(call: Call, kernel: str) -> Call:
    """A call of the kernel, whose bias holds the offset of the input where no window is clipped."""
    if kernel not in ONE_RUN:
        return replace(call, function=kernel)
    weights, bias = (next(table for table in call.tables if table.field == name) for name in ("weights", "bias"))
    sums = weights.values.astype(np.int64).sum(axis=(1, 2, 3))
    moved = replace(bias, values=bias.values + call.fields["in_offset"] * sums)
    fields = call.fields | ({"in_offset": 0} if kernel == "pointwise" else {})
    tables = tuple(moved if table is bias else table for table in call.tables)
    return replace(call, function=kernel, fields=fields, tables=tables)


def _convolution(model: Int8Model, op: QOp) -> list[Call]:
    weights, source, target = _weights_of(op), model.tensors[op.inputs[0]], model.tensors[op.output]
    in_shape, out_shape = source.shape, target.shape
    if groups_of(model, op) > 1:
        return [_grouped(model, op, weights)]
    geometry = _geometry(op, in_shape, out_shape)
    if op.kernel == (1, 1) and op.stride == (1, 1) and in_shape[1] * in_shape[2] <= INT16_MAX:
        positions = in_shape[1] * in_shape[2]  # one long row: every position has a neighbour to pair with
        geometry |= {"in_h": 1, "in_w": positions, "out_h": 1, "out_w": positions}
    function = convolution_kernel(op, in_shape[3])
    return [_weighted(model, op, function, weights, _narrow_turned(geometry), conv_multipliers(model, op))]


def _grouped(model: Int8Model, op: QOp, weights: np.ndarray) -> Call:
    geometry = _geometry(op, model.tensors[op.inputs[0]].shape, model.tensors[op.output].shape)
    call = _weighted(model, op, "convolution", weights, geometry, conv_multipliers(model, op))
    fields = {f"layer.{name}": value for name, value in call.fields.items()} | {"groups": groups_of(model, op)}
    tables = tuple(replace(table, field=f"layer.{table.field}") for table in call.tables)
    return replace(call, function="grouped", struct="grouped_t", fields=fields, tables=tables)


def _dense(model: Int8Model, op: QOp) -> list[Call]:
    weights = _weights_of(op)
    shape = (1, 1, 1, weights.shape[1])
    if model.tensors[op.inputs[0]].bytes != weights.shape[1]:
        raise InputError(
            f"layer {op.name!r}: dense layer of {weights.shape[1]} values on a tensor of "
            f"{model.tensors[op.inputs[0]].bytes}: firmware runs one vector a layer"
        )
    single = replace(op, kernel=(1, 1))
    geometry = _geometry(single, shape, (1, 1, 1, weights.shape[0]))
    function = convolution_kernel(single, weights.shape[1])
    return [_weighted(model, op, function, weights[:, None, None, :], geometry, dense_multipliers(model, op))]


def _depthwise(model: Int8Model, op: QOp) -> list[Call]:
    weights, source, target = _weights_of(op), model.tensors[op.inputs[0]], model.tensors[op.output]
    in_shape, out_shape = source.shape, target.shape
    if in_shape[3] == 1 < out_shape[3]:  # every output sees the one channel: an ordinary convolution, and a faster one
        turned = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
        return _convolution(model, replace(op, kind=Kind.CONV, weights=turned))
    function = depthwise_kernel(op, in_shape[3], out_shape[3])
    geometry = _narrow_turned(_geometry(op, in_shape, out_shape))
    return [_weighted(model, op, function, weights, geometry, conv_multipliers(model, op))]


def _pool(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    if (source.scale, source.zero_point) != (target.scale, target.zero_point):
        raise InputError(f"layer {op.name!r}: pooling must keep scale and zero point of its input")
    low, high = activation_range(op.activation, target)
    geometry = _geometry(op, source.shape, target.shape)
    names = ("in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left")
    fields = {name: geometry[name] for name in names} | {"channels": geometry["in_c"]}
    function = "max_pool" if op.kind is Kind.MAX_POOL else "average_pool"
    return [_call(op, function, "pool_t", fields | {"out_min": low, "out_max": high})]


def _add(model: Int8Model, op: QOp) -> list[Call]:
    a, b, out = (model.tensors[i] for i in (*op.inputs[:2], op.output))
    if len(op.inputs) != 2 or a.shape != b.shape:
        raise InputError(f"layer {op.name!r}: addition of {a.shape} and {b.shape}: firmware adds two equal shapes")
    *inputs, (multiplier, shift) = sum_multipliers(a, b, out)
    low, high = activation_range(op.activation, out)
    fields = {"size": out.bytes, "out_min": low, "out_max": high, "out_offset": out.zero_point}
    for side, tensor, own in zip("ab", (a, b), inputs, strict=True):
        fields[f"multiplier_{side}"], fields[f"shift_{side}"] = own
        fields[f"offset_{side}"] = -tensor.zero_point
    fields |= {"out_multiplier": multiplier, "out_shift": shift}
    _check_sums(op, SPREAD << (ADD_BITS + max(shift, 0)))
    return [_call(op, "add", "add_t", fields)]


def _relu(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    low, high = activation_range(Activation.RELU, target)
    multiplier, shift = quantise_multiplier(ratio(source, target))
    _check_sums(op, SPREAD << max(shift, 0))
    fields = {"size": target.bytes, "multiplier": multiplier, "shift": shift, "in_offset": -source.zero_point}
    fields |= {"out_offset": target.zero_point, "out_min": low, "out_max": high}
    return [_call(op, "relu", "rescale_t", fields)]


def _mean(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    positions = source.shape[1] * source.shape[2]
    if target.bytes != source.shape[-1]:
        raise InputError(f"layer {op.name!r}: mean of {source.shape} to {target.shape}: only over all positions")
    multiplier, shift = mean_multiplier(source, target, positions)
    _check_sums(op, (SPREAD * positions) << max(shift, 0))
    fields = {"positions": positions, "channels": source.shape[-1], "multiplier": multiplier, "shift": shift}
    fields |= {"in_offset": -source.zero_point, "out_offset": target.zero_point}
    return [_call(op, "mean", "mean_t", fields)]


def _pad(model: Int8Model, op: QOp) -> list[Call]:
    source = model.tensors[op.inputs[0]]
    (top, bottom), (left, right) = op.padding
    fields = dict(zip(("in_h", "in_w", "channels"), source.shape[1:], strict=True))
    fields |= {"top": top, "bottom": bottom, "left": left, "right": right}
    fields["value"] = op.value if op.kind is Kind.PADV2 else source.zero_point
    return [_call(op, "pad", "pad_t", fields)]


def _concat(model: Int8Model, op: QOp) -> list[Call]:
    out = model.tensors[op.output]
    calls, at = [], 0
    for tensor in op.inputs:
        source = model.tensors[tensor]
        if (source.scale, source.zero_point) != (out.scale, out.zero_point) or source.shape[:-1] != out.shape[:-1]:
            raise InputError(f"layer {op.name!r}: concatenation must join channels of one scale and zero point")
        channels = source.shape[-1]
        fields = {"positions": source.bytes // channels, "channels": channels, "out_channels": out.shape[-1]}
        calls.append(replace(_call(op, "concat", "concat_t", fields), inputs=(tensor,), output_at=at))
        at += channels
    return calls


def _softmax(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    classes = source.shape[-1]
    if classes > SOFTMAX_CLASSES or (target.scale, target.zero_point) != (1.0 / 256.0, -128):
        raise InputError(
            f"layer {op.name!r}: softmax over {classes} classes to scale {target.scale:g}, zero point "
            f"{target.zero_point}: at most {SOFTMAX_CLASSES} classes, scale 1/256 and zero point -128"
        )
    table = exponential_table(source.scale)
    fields = {"count": len(table), "rows": source.bytes // classes, "classes": classes}
    return [_call(op, "softmax", "softmax_t", fields, Table("exponential", "int32_t", table))]


def _lookup(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    table = Table("table", "int8_t", table_of(op.kind, source, target, op.alpha))
    return [_call(op, "lookup", "lookup_t", {"size": target.bytes}, table)]


def _multiply(model: Int8Model, op: QOp) -> list[Call]:
    a, b = sorted(op.inputs, key=lambda tensor: -model.tensors[tensor].bytes)
    left, right, out = model.tensors[a], model.tensors[b], model.tensors[op.output]
    multiplier, shift = product_multiplier(left, right, out)
    _check_sums(op, SPREAD * SPREAD << max(shift, 0))
    low, high = activation_range(op.activation, out)
    fields = {"size": out.bytes, "period": right.bytes, "multiplier": multiplier, "shift": shift}
    fields |= {"offset_a": -left.zero_point, "offset_b": -right.zero_point, "out_offset": out.zero_point}
    call = _call(op, "multiply", "multiply_t", fields | {"out_min": low, "out_max": high})
    return [replace(call, inputs=(a, b))]


def _enlarge(model: Int8Model, op: QOp) -> list[Call]:
    source = model.tensors[op.inputs[0]]
    fields = dict(zip(("in_h", "in_w", "channels"), source.shape[1:], strict=True))
    return [_call(op, "enlarge", "enlarge_t", fields | {"down": op.kernel[0], "right": op.kernel[1]})]


def _transposed(model: Int8Model, op: QOp) -> list[Call]:
    geometry = _geometry(op, model.tensors[op.inputs[0]].shape, model.tensors[op.output].shape)
    return [_weighted(model, op, "transposed", _weights_of(op), geometry, conv_multipliers(model, op))]


def _prelu(model: Int8Model, op: QOp) -> list[Call]:
    source, target, slopes = model.tensors[op.inputs[0]], model.tensors[op.output], _weights_of(op)
    above, below = prelu_multipliers(model, op)
    fields = {"size": target.bytes, "period": slopes.size, "in_offset": -source.zero_point}
    fields |= {"slope_offset": -op.value, "out_offset": target.zero_point}
    fields["multiplier"], fields["shift"] = above
    fields["multiplier_below"], fields["shift_below"] = below
    _check_sums(op, SPREAD << max(fields["shift"], 0))
    _check_sums(op, SPREAD * SPREAD << max(fields["shift_below"], 0))
    return [_call(op, "prelu", "prelu_t", fields, Table("slopes", "int8_t", slopes.ravel()))]


def _bilinear(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    fields = dict(zip(("in_h", "in_w", "channels"), source.shape[1:], strict=True))
    for side, axis in (("h", 1), ("w", 2)):
        fields[f"out_{side}"] = target.shape[axis]
        scale, start = interpolation(source.shape[axis], target.shape[axis], op.sampling)
        fields[f"scale_{side}"], fields[f"start_{side}"] = scale, start
    return [_call(op, "bilinear", "bilinear_t", fields)]


def _slice(model: Int8Model, op: QOp) -> list[Call]:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    fields = dict(zip(("out_h", "out_w", "channels"), target.shape[1:], strict=True)) | {"in_w": source.shape[2]}
    fields |= {"top": op.begin[0], "left": op.begin[1], "down": op.stride[0], "right": op.stride[1]}
    return [_call(op, "slice", "slice_t", fields)]


def _gather(model: Int8Model, op: QOp) -> list[Call]:
    source = model.tensors[op.inputs[0]]
    channels = source.shape[-1]
    fields = {"positions": source.bytes // channels, "in_channels": channels, "channels": len(op.order)}
    return [_call(op, "gather", "gather_t", fields, Table("order", "int16_t", np.array(op.order)))]


_LOWERINGS: dict[Kind, Callable[[Int8Model, QOp], list[Call]]] = {
    Kind.CONV: _convolution,
    Kind.DEPTHWISE: _depthwise,
    Kind.DENSE: _dense,
    Kind.ADD: _add,
    Kind.CONCAT: _concat,
    Kind.MAX_POOL: _pool,
    Kind.AVG_POOL: _pool,
    Kind.MEAN: _mean,
    Kind.PAD: _pad,
    Kind.PADV2: _pad,
    Kind.RESHAPE: lambda model, op: [],
    Kind.RELU: _relu,
    Kind.SOFTMAX: _softmax,
    Kind.MUL: _multiply,
    Kind.RESIZE: _enlarge,
    Kind.SLICE: _slice,
    Kind.GATHER: _gather,
    Kind.PRELU: _prelu,
    Kind.TRANSPOSE_CONV: _transposed,
    Kind.BILINEAR: _bilinear,
    **dict.fromkeys(TABLES, _lookup),
}


def _call(op: QOp, function: str, struct: str, fields: dict[str, int], *tables: Table) -> Call:
    for name, value in fields.items():
        if abs(value) > (INT32_MAX if name in WORDS else INT16_MAX):
            raise InputError(f"layer {op.name!r}: {name} = {value:,} is too large for the firmware's kernels")
    return Call(function, struct, fields, op.inputs, op.output, tables)


def _check_sums(op: QOp, largest: int) -> None:
    """Refuse what the kernels' rescaling cannot take: sums, shifted left where their multiplier asks for it."""
    if largest >= LARGEST_SUM:
        raise InputError(f"layer {op.name!r}: sums up to {largest:,} overflow the kernels, which take {LARGEST_SUM:,}")


def _weights_of(op: QOp) -> np.ndarray:
    if op.weights is None:
        raise InputError(f"layer {op.name!r}: {op.kind} without weights")
    return op.weights


def _geometry(op: QOp, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> dict[str, int]:
    (top, _), (left, _) = op.padding
    for size, kernel, dilation in zip(in_shape[1:3], op.kernel, op.dilation, strict=True):
        if dilation > 1 and size + 2 * kernel * dilation > INT16_MAX:  # the kernels' indices on an AVR
            raise InputError(f"layer {op.name!r}: dilation = {dilation:,} is too large for the firmware's kernels")
    return {
        "in_h": in_shape[1], "in_w": in_shape[2], "in_c": in_shape[3],
        "out_h": out_shape[1], "out_w": out_shape[2], "out_c": out_shape[3],
        "kernel_h": op.kernel[0], "kernel_w": op.kernel[1], "stride_h": op.stride[0], "stride_w": op.stride[1],
        "dilation_h": op.dilation[0], "dilation_w": op.dilation[1], "pad_top": top, "pad_left": left,
    }  # fmt: skip


def _narrow_turned(geometry: dict[str, int]) -> dict[str, int]:
    """A signal of width 1 as one of height 1: the same values in memory, but windows become contiguous runs."""
    narrow = geometry["in_w"] == geometry["out_w"] == geometry["kernel_w"] == 1 and geometry["pad_left"] == 0
    if not narrow or geometry["dilation_h"] != 1:
        return geometry
    pairs = (("_h", "_w"), ("_top", "_left"))
    turned = dict(geometry)
    for first, second in pairs:
        for name in [key for key in geometry if key.endswith(first)]:
            other = name.removesuffix(first) + second
            turned[name], turned[other] = geometry[other], geometry[name]
    return turned


def _weighted(
    model: Int8Model,
    op: QOp,
    function: str,
    weights: np.ndarray,
    geometry: dict[str, int],
    multipliers: list[tuple[int, int]],
) -> Call:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    bias = np.zeros(geometry["out_c"], np.int64) if op.bias is None else op.bias.astype(np.int64)
    axes = (0, 1, 2) if function.startswith("depthwise") else (1, 2, 3)
    reach = max(127 - source.zero_point, 128 + source.zero_point)
    sums = np.abs(weights.astype(np.int64)).sum(axis=axes) * reach + np.abs(bias)
    _check_sums(op, int((sums << np.array([max(shift, 0) for _, shift in multipliers])).max()))
    low, high = activation_range(op.activation, target)
    fields = geometry | {"in_offset": -source.zero_point, "out_offset": target.zero_point}
    fields |= {"out_min": low, "out_max": high}
    tables = (
        Table("weights", "int8_t", weights),
        Table("bias", "int32_t", bias),
        Table("multiplier", "int32_t", np.array([value for value, _ in multipliers])),
        Table("shift", "int8_t", np.array([shift for _, shift in multipliers])),
    )
    return replace(_call(op, function, "convolution_t", fields, *tables), macs=op_macs(model, op))
