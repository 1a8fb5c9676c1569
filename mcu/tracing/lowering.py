"""From a canonical network to operators: one rule per layer and function, folding what the exported model folds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph import layers
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.places import place_of, refuse
from mcu.graph.ports import Port, each
from mcu.graph.windows import NO_PADDING, Pair, own_padding, reached_padding, same_padding
from mcu.tracing.operators import Operators, Value, path_of, size_of

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.TRANSPOSE_CONV)
_FUSABLE = (*_WEIGHTED, Kind.ADD)

MOST_JOINED = 10
"""Inputs that the interpreter's CONCATENATION takes: ``kMaxInputNum`` of its concatenation.cc."""


def lower(module: fx.GraphModule, frozen: Collection[str]) -> Graph:
    """The operators of a canonical network whose nodes have a ``shape``, in the order of its nodes.

    Args:
        module: the network.
        frozen: paths of layers, or of modules with layers in them, whose output channels all stay.

    Raises:
        InputError: for a node that is no part of a canonical network, or that no operator computes.
    """
    net, modules = Operators(frozen), dict(module.named_modules())
    inputs: list[Port] = []
    outputs: tuple[Port, ...] = ()
    for node in module.graph.nodes:
        if node.op == "placeholder":
            inputs.append(Port(_input(net, node), node.name))
        elif node.op == "output":
            names = module.meta["interface"].outputs
            returned = zip(each(node.args[0]), names, strict=True)
            outputs = tuple(Port(_output(net, read, inputs), name) for read, name in returned)
        else:
            _visit(net, node, modules)
    return net.graph(tuple(inputs), outputs)


def _input(net: Operators, node: fx.Node) -> int:
    channels, height, width = size_of(node)
    tensor = net.tensor(node.name, height, width, net.atoms.new(channels, fixed=True))
    net.values[node] = Value(tensor)
    return tensor


def _output(net: Operators, node: fx.Node, inputs: list[Port]) -> int:
    """The tensor of an output, whose channels all stay."""
    tensor = net.settled(node, net.values[node])
    net.values[node] = Value(tensor)
    if any(port.tensor == tensor for port in inputs):
        refuse(place_of(node), "the network returns this input as it is", "leave it out of what it returns")
    net.fix(tensor)
    return tensor


def _visit(net: Operators, node: Any, modules: dict[str, nn.Module]) -> None:
    if node.op == "call_module":
        layer = modules[str(node.target)]
        rule = next((rule for kinds, rule in _LAYERS.items() if isinstance(layer, kinds)), None)
        if rule:
            rule(net, node, layer)
            return
    elif node.op == "call_function" and node.target in _FUNCTIONS:
        _FUNCTIONS[node.target](net, node)
        return
    raise InputError(f"{place_of(node)}: {node.target} is no part of a canonical network")


# --- layers with weights -----------------------------------------------------------------------------------


def _convolution(net: Operators, node: Any, layer: Any) -> None:
    """Convolution, in groups or not, or depthwise convolution."""
    path, kernel, dilation = str(node.target), _pair(layer.kernel_size), _pair(layer.dilation)
    own = own_padding(layer.padding, kernel, dilation)
    tensor, padding = _window(net, node, kernel, _pair(layer.stride), dilation, own)
    read = net.tensor_atoms[tensor]
    if layer.depthwise:
        kind, groups, atoms = Kind.DEPTHWISE, 1, read.repeat(layer.out_channels // layer.in_channels)
        net.tie_uses(path, read)
        if net.is_frozen(path):
            net.atoms.fix(atoms)
    else:
        kind, groups, atoms = Kind.CONV, layer.groups, net.outputs(path, layer.out_channels)
        net.tie_parts(read, groups)
        net.tie_parts(atoms, groups)
        net.tie_uses(path, read, atoms)
    op = Op(kind, path, (tensor,), -1, kernel, _pair(layer.stride), dilation, padding, layer=path, groups=groups)
    net.emit(node, op, atoms, writer=True)


def _window(
    net: Operators, node: Any, kernel: Pair, stride: Pair, dilation: Pair, own: tuple[Pair, Pair]
) -> tuple[int, tuple[Pair, Pair]]:
    """The tensor to read and the padding left to the operator: SAME, VALID, or a PAD operator before it."""
    value = net.values[node.args[0]]
    sizes, total = net.spatial(value.tensor), _added(value.padding, own)
    vertical, horizontal = zip(sizes, kernel, stride, dilation, total, strict=True)
    reached = (reached_padding(*vertical), reached_padding(*horizontal))
    same = (same_padding(*vertical[:4]), same_padding(*horizontal[:4]))
    if reached in (same, NO_PADDING):
        return value.tensor, reached
    return net.pad(node, Value(value.tensor, reached)).tensor, NO_PADDING


def _dense(net: Operators, node: Any, layer: nn.Linear) -> None:
    """Dense layer: a VALID convolution as large as its input."""
    path, tensor = str(node.target), net.read(node)
    atoms = net.outputs(path, layer.out_features)
    net.tie_uses(path, net.tensor_atoms[tensor], atoms)
    op = Op(Kind.CONV, path, (tensor,), -1, kernel=net.spatial(tensor), layer=path)
    net.emit(node, op, atoms, writer=True)


def _transposed(net: Operators, node: Any, layer: layers.TransposedConvolution) -> None:
    """Transposed convolution: padding cuts off what SAME does, nothing, or what a SLICE leaves out."""
    path, tensor = str(node.target), net.read(node)
    atoms = net.outputs(path, layer.out_channels)
    net.tie_uses(path, net.tensor_atoms[tensor], atoms)
    _, height, width = size_of(node)
    axes = zip((height, width), layer.kernel_size, layer.stride, strict=True)
    rows, columns = (same_padding(*axis) for axis in axes)
    begin = layer.padding
    counts = (-(-height // layer.stride[0]), -(-width // layer.stride[1]))
    same = begin == (rows[0], columns[0]) and counts == net.spatial(tensor)
    padding = (rows, columns) if same and begin != (0, 0) else NO_PADDING
    op = Op(Kind.TRANSPOSE_CONV, path, (tensor,), -1, layer.kernel_size, layer.stride, padding=padding, layer=path)
    if same or begin == (0, 0):
        net.emit(node, op, atoms, writer=True)
        return
    sizes = zip(net.spatial(tensor), layer.kernel_size, layer.stride, begin, (height, width), strict=True)
    least = [max((count - 1) * step + kernel, cut + made) for count, kernel, step, cut, made in sizes]
    whole = net.tensor(f"{path}.whole", least[0], least[1], atoms)
    net.insert(replace(op, output=whole, anchor=node.name), writer=True)
    net.emit(node, Op(Kind.SLICE, f"{path}.cut", (whole,), -1, begin=begin), atoms)


def _prelu(net: Operators, node: Any, layer: layers.PReLU) -> None:
    """A slope below zero for each channel."""
    path, tensor = str(node.target), net.read(node)
    if layer.weight.numel() > 1:
        net.tie_uses(path, net.tensor_atoms[tensor])
    net.emit(node, Op(Kind.PRELU, path, (tensor,), -1, layer=path), net.tensor_atoms[tensor])


def _scale(net: Operators, node: Any, layer: Any) -> None:
    """Batch normalisation, constants: folded into the layer before it, else a 1x1 depthwise operator."""
    path, source = str(node.target), node.args[0]
    value = net.values[source]
    net.tie_uses(path, net.tensor_atoms[value.tensor])
    last = len(net.ops) - 1
    op = net.ops[net.layer_behind(last)] if net.ops else None
    bare = op and op.kind in _WEIGHTED and op.layer and not op.norm and op.activation is Activation.NONE
    if op and bare and net.ops[last].node == source.name and len(source.users) == 1:
        net.extend(last, node, norm=path, anchor=node.name)
        net.values[node] = value
        return
    tensor = net.settled(node, value)
    net.emit(node, Op(Kind.DEPTHWISE, path, (tensor,), -1, norm=path), net.tensor_atoms[tensor], writer=True)


# --- elementwise -------------------------------------------------------------------------------------------


def _relu(net: Operators, node: Any, activation: Activation, bounds: tuple[float, float] | None = None) -> None:
    """ReLU and bounds: fused into the operator before it when its output has no other consumer.

    A separate operator clamps by the range of its output: RELU, or, for a bound below zero, LEAKY_RELU of slope 1.
    """
    source = node.args[0]
    value = net.values[source]
    position = net.producer(value.tensor)
    if position is not None and value.padding == NO_PADDING:
        op = net.ops[net.layer_behind(position)]
        if op.activation is activation and bounds in (None, op.bounds):
            net.values[node] = value
            return
        bare = op.activation is Activation.NONE and op.bounds is None
        last = net.ops[position].node == source.name and len(source.users) == 1
        if bare and op.kind in _FUSABLE and last:
            net.extend(position, node, activation=activation, bounds=bounds)
            net.values[node] = value
            return
    tensor = net.settled(node, value)
    if activation is Activation.RELU6:
        activation, bounds = Activation.RELU, (0.0, 6.0)
    kind, alpha = (Kind.LEAKY_RELU, 1.0) if activation is Activation.NONE else (Kind.RELU, 0.0)
    net.apply(node, kind, tensor, activation=activation, bounds=bounds, alpha=alpha)


def _limit(net: Operators, node: Any) -> None:
    """Bounds around zero."""
    low, high = node.args[1:]
    _relu(net, node, Activation.RELU if low == 0 else Activation.NONE, (low, high))


def _table(net: Operators, node: Any, kind: Kind, alpha: float = 0.0) -> None:
    """An activation that is a separate operator."""
    tensor = net.read(node)
    if kind is Kind.LOGISTIC and any(user.target is not torch.mul for user in node.users):
        net.fix(tensor)  # of a channel that is gone 0.5 would be left
    net.apply(node, kind, tensor, alpha=alpha)


def _combine(net: Operators, node: Any, kind: Kind) -> None:
    """Sum of two equal shapes, product of two maps or of a map and one value for each of its channels.

    Ties their channels one to one.
    """
    left, right = (net.read(node, argument) for argument in node.args)
    net.atoms.tie(net.tensor_atoms[left], net.tensor_atoms[right])
    if kind is Kind.MUL and all(_holds_gates(net, side) for side in (left, right)):
        net.fix(left)
    net.emit(node, Op(kind, path_of(node), (left, right), -1), net.tensor_atoms[left])


def _holds_gates(net: Operators, tensor: int) -> bool:
    """Whether values come from a sigmoid, by which a channel that is gone would be 0.5."""
    return any(op is not None and op.kind is Kind.LOGISTIC for op in net.sources(tensor))


# --- channels beside one another, and in another order -----------------------------------------------------


def _concat(net: Operators, node: Any) -> None:
    """Concatenation along the channels: lays them side by side."""
    parts = tuple(net.read(node, argument) for argument in node.args[0])
    ends = [net.ends(part) for part in parts]
    if len(set().union(*ends)) > 1:  # codes of one scale for all would end elsewhere
        pairs = zip(parts, ends, strict=True)
        parts = tuple(net.rescaled(node, part) if own != {None} else part for part, own in pairs)
    atoms = np.concatenate([net.tensor_atoms[part] for part in parts])
    net.emit(node, Op(Kind.CONCAT, path_of(node), _joined_in_part(net, node, parts), -1), atoms)
    net.joined[parts] = net.values[node].tensor


def _joined_in_part(net: Operators, node: Any, parts: tuple[int, ...]) -> tuple[int, ...]:
    """Parts that lie side by side already are read from there, and more than can be joined at once in two steps.

    In a dense block every layer reads all that came before: joined anew each time, all parts would stay alive.
    """
    known = next((count for count in range(len(parts) - 1, 1, -1) if parts[:count] in net.joined), 0)
    if known:
        parts = (net.joined[parts[:known]], *parts[known:])
    while len(parts) > MOST_JOINED:
        name = f"{path_of(node)}.part"
        first, rest = parts[:MOST_JOINED], parts[MOST_JOINED:]
        tensor = net.tensor(name, *net.spatial(first[0]), np.concatenate([net.tensor_atoms[p] for p in first]))
        parts = (net.insert(Op(Kind.CONCAT, name, first, tensor)), *rest)
    return parts


def _gather(net: Operators, node: Any, layer: layers.Gather) -> None:
    """Some channels; a shuffle of equal parts ties the channels at one place in them."""
    tensor = net.read(node)
    atoms = net.tensor_atoms[tensor]
    for parts in (p for p in range(2, len(atoms)) if len(atoms) % p == 0):
        if layer.order == tuple(np.arange(len(atoms)).reshape(parts, -1).T.ravel().tolist()):
            net.tie_parts(atoms, parts)
    op = Op(Kind.GATHER, str(node.target), (tensor,), -1, order=layer.order)
    net.emit(node, op, atoms[list(layer.order)])


# --- windows, rows and columns -----------------------------------------------------------------------------


def _pool(net: Operators, node: Any, kind: Kind) -> None:
    """A pool; padding that is not SAME becomes a PAD operator, of zeros where they change no maximum."""
    value = net.values[node.args[0]]
    kernel, stride, padding = node.args[1:]
    if value.constant:
        padding, value = _added(padding, value.padding), Value(value.tensor)
    tensor = net.settled(node, value)
    sizes = net.spatial(tensor)
    same = tuple(same_padding(*axis) for axis in zip(sizes, kernel, stride, strict=True))
    if padding not in (NO_PADDING, same):
        if kind is Kind.AVG_POOL:
            refuse(
                place_of(node),
                f"an average pool of {kernel} at stride {stride} with padding {padding} on a map of {sizes}",
                "allowed are padding that equals TensorFlow's SAME, none, and zeros that count in the mean",
            )
        least = 0.0 if net.is_rectified(tensor) else -np.inf
        tensor, padding = net.pad(node, Value(tensor, padding, least)).tensor, NO_PADDING
    net.apply(node, kind, tensor, kernel=kernel, stride=stride, padding=padding)


def _global_pool(net: Operators, node: Any, kind: Kind) -> None:
    """A pool over the whole map."""
    tensor = net.read(node)
    net.apply(node, kind, tensor, kernel=net.spatial(tensor), stride=net.spatial(tensor))


def _enlarge(net: Operators, node: Any) -> None:
    """Nearest-neighbour upsampling."""
    net.apply(node, Kind.RESIZE, net.read(node), kernel=node.args[1])


def _interpolate(net: Operators, node: Any) -> None:
    """Bilinear interpolation."""
    sampling = Sampling.CORNERS if node.args[2] else Sampling.CENTRES
    net.apply(node, Kind.BILINEAR, net.read(node), sampling=sampling)


def _cut(net: Operators, node: Any) -> None:
    """Some rows and columns."""
    begin, _, step = node.args[1:]
    net.apply(node, Kind.SLICE, net.read(node), stride=step, begin=begin)


def _pad(net: Operators, node: Any) -> None:
    """Zero padding, which the next operator may absorb; another constant is a PADV2, and keeps all channels."""
    value, constant = net.values[node.args[0]], float((*node.args, 0.0)[2])
    if constant != value.constant:
        value = Value(net.settled(node, value), NO_PADDING, constant)
    value = replace(value, padding=_added(value.padding, node.args[1]))
    if constant and np.isfinite(constant):
        net.fix(value.tensor)
        if net.ends(value.tensor) != {None}:
            value = replace(value, tensor=net.rescaled(node, value.tensor))
        value = net.pad(node, value)
    net.values[node] = value


def _flatten(net: Operators, node: Any) -> None:
    """Flattening is free: a dense layer is a convolution as large as the map."""
    net.values[node] = Value(net.read(node))


def _alias(net: Operators, node: Any, layer: nn.Module | None = None) -> None:
    """Layers without effect at inference."""
    net.values[node] = net.values[node.args[0]]


def _added(inner: tuple[Pair, Pair], outer: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    rows, columns = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(inner, outer, strict=True))
    return rows, columns


def _pair(values: Any) -> Pair:
    return int(values[0]), int(values[1])


_LAYERS: dict[Any, Callable[..., None]] = {
    layers.Convolution: _convolution,
    layers.TransposedConvolution: _transposed,
    layers.PReLU: _prelu,
    nn.Linear: _dense,
    (nn.BatchNorm1d, nn.BatchNorm2d, layers.Affine): _scale,
    layers.Gather: _gather,
    (nn.Dropout, nn.Dropout2d, nn.AlphaDropout): _alias,
}

_FUNCTIONS: dict[Any, Callable[[Operators, fx.Node], None]] = {
    F.relu: lambda net, n: _relu(net, n, Activation.RELU),
    F.relu6: lambda net, n: _relu(net, n, Activation.RELU6),
    layers.limited: _limit,
    torch.add: lambda net, n: _combine(net, n, Kind.ADD),
    torch.mul: lambda net, n: _combine(net, n, Kind.MUL),
    torch.sigmoid: lambda net, n: _table(net, n, Kind.LOGISTIC),
    torch.tanh: lambda net, n: _table(net, n, Kind.TANH),
    F.hardswish: lambda net, n: _table(net, n, Kind.HARD_SWISH),
    F.leaky_relu: lambda net, n: _table(net, n, Kind.LEAKY_RELU, float(cast(float, n.args[1]))),
    F.elu: lambda net, n: _table(net, n, Kind.ELU),
    layers.concatenate: _concat,
    layers.max_pool: lambda net, n: _pool(net, n, Kind.MAX_POOL),
    layers.average_pool: lambda net, n: _pool(net, n, Kind.AVG_POOL),
    layers.global_max_pool: lambda net, n: _global_pool(net, n, Kind.MAX_POOL),
    layers.global_average_pool: lambda net, n: _global_pool(net, n, Kind.AVG_POOL),
    layers.pad: _pad,
    layers.enlarge: _enlarge,
    layers.interpolate: _interpolate,
    layers.cut: _cut,
    layers.as_row: _flatten,
    layers.as_image: _alias,
}
