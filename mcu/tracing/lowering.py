"""From a canonical network to operators: one rule per layer and function, folding what the exported model folds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph import layers
from mcu.graph.channels import Atoms, assign_groups
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.places import is_within, place_of, refuse
from mcu.graph.ports import Port, each
from mcu.graph.windows import NO_PADDING, Pair, own_padding, reached_padding, same_padding
from mcu.int8.lookup import FIXED_RANGES

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.TRANSPOSE_CONV)
_FUSABLE = (*_WEIGHTED, Kind.ADD)

MOST_JOINED = 10
"""Inputs that the interpreter's CONCATENATION takes: ``kMaxInputNum`` of its concatenation.cc."""


@dataclass(frozen=True)
class _Value:
    """What an fx node stands for: a tensor, with zeros, or less than any value, still to be added around it."""

    tensor: int
    padding: tuple[Pair, Pair] = NO_PADDING
    constant: float = 0.0


class Lowering:
    """Walks the fx nodes once, in order, and collects operators and tensors."""

    def __init__(self, module: fx.GraphModule, frozen: Collection[str]) -> None:
        self.module = module
        self.modules = dict(module.named_modules())
        self.frozen = frozen
        self.values: dict[fx.Node, _Value] = {}
        self.uses: dict[str, tuple[Any, ...]] = {}
        self.ops: list[Op] = []
        self.writers: set[int] = set()
        self.atoms = Atoms()
        self.tensor_atoms: list[Any] = []
        self.shapes: list[tuple[str, int, int]] = []
        self.joined: dict[tuple[int, ...], int] = {}  # tensors that have been laid side by side

    def build(self) -> Graph:
        """Visit every node and assign channel groups."""
        inputs: list[Port] = []
        outputs: tuple[Port, ...] = ()
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(Port(self._input(node), node.name))
            elif node.op == "output":
                names = self.module.meta["interface"].outputs
                outputs = tuple(
                    Port(self._output(read, inputs), name) for read, name in zip(each(node.args[0]), names, strict=True)
                )
            else:
                self._visit(node)
        tensors, groups = assign_groups(self.ops, self.tensor_atoms, self.shapes, self.atoms, self.writers)
        return Graph(tensors, tuple(self.ops), groups, tuple(inputs), outputs)

    # --- tensors -------------------------------------------------------------------------------------------

    def _size(self, node: Any) -> tuple[int, int, int]:
        channels, *rest = node.meta["shape"][1:]
        height, width = (*rest, 1, 1)[:2]
        return channels, height, width

    def _tensor(self, name: str, height: int, width: int, atoms: Any) -> int:
        self.shapes.append((name, height, width))
        self.tensor_atoms.append(atoms)
        return len(self.shapes) - 1

    def _input(self, node: Any) -> int:
        channels, height, width = self._size(node)
        tensor = self._tensor(node.name, height, width, self.atoms.new(channels, fixed=True))
        self.values[node] = _Value(tensor)
        return tensor

    def _output(self, node: fx.Node, inputs: list[Port]) -> int:
        """The tensor of an output, whose channels all stay."""
        tensor = self._settled(node, self.values[node])
        self.values[node] = _Value(tensor)
        if any(port.tensor == tensor for port in inputs):
            refuse(place_of(node), "the network returns this input as it is", "leave it out of what it returns")
        self.atoms.fix(self.tensor_atoms[tensor])
        return tensor

    def _spatial(self, tensor: int) -> Pair:
        return self.shapes[tensor][1:]

    def _emit(self, node: Any, op: Op, atoms: Any, *, writer: bool = False) -> None:
        _, height, width = self._size(node)
        tensor = self._tensor(op.name, height, width, atoms)
        self.ops.append(replace(op, output=tensor, anchor=node.name, node=node.name))
        if writer:
            self.writers.add(len(self.ops) - 1)
        self.values[node] = _Value(tensor)

    def _operand(self, node: Any) -> _Value:
        return self.values[node.args[0]]

    def _settled(self, node: Any, value: _Value) -> int:
        """The tensor itself; padding that no convolution absorbs becomes a PAD operator."""
        return self._pad(node, value).tensor if value.padding != NO_PADDING else value.tensor

    def _pad(self, node: Any, value: _Value) -> _Value:
        (top, bottom), (left, right) = value.padding
        height, width = self._spatial(value.tensor)
        name = f"{self._path(node)}.pad"
        tensor = self._tensor(name, height + top + bottom, width + left + right, self.tensor_atoms[value.tensor])
        kind = Kind.PADV2 if value.constant else Kind.PAD
        self.ops.append(Op(kind, name, (value.tensor,), tensor, padding=value.padding, value=value.constant))
        return _Value(tensor)

    def _path(self, node: Any) -> str:
        return place_of(node).path

    def _is_frozen(self, path: str) -> bool:
        return is_within(path, self.frozen)

    # --- operators -----------------------------------------------------------------------------------------

    def _visit(self, node: Any) -> None:
        if node.op == "call_module":
            target = self.modules[str(node.target)]
            rule = next((rule for kinds, rule in _LAYERS.items() if isinstance(target, kinds)), None)
            if rule:
                rule(self, node, target)
                return
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            _FUNCTIONS[node.target](self, node)
            return
        raise InputError(f"{place_of(node)}: {node.target} is no part of a canonical network")

    def convolution(self, node: Any, layer: Any) -> None:
        """Convolution, in groups or not, or depthwise convolution."""
        path, value = str(node.target), self._operand(node)
        kernel, stride, dilation = _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.dilation)
        depthwise = bool(layer.depthwise)
        tensor, padding = self._window(
            node, value, kernel, stride, dilation, own_padding(layer.padding, kernel, dilation)
        )
        if depthwise:
            atoms = self.tensor_atoms[tensor].repeat(layer.out_channels // layer.in_channels)
            self._tie_uses(path, self.tensor_atoms[tensor])
        else:
            atoms = self.atoms.new(layer.out_channels)
            self._tie_parts(self.tensor_atoms[tensor], layer.groups)
            self._tie_parts(atoms, layer.groups)
            self._tie_uses(path, self.tensor_atoms[tensor], atoms)
        if self._is_frozen(path):
            self.atoms.fix(atoms)
        kind = Kind.DEPTHWISE if depthwise else Kind.CONV
        op = Op(kind, path, (tensor,), -1, kernel, stride, dilation, padding, layer=path)
        self._emit(node, replace(op, groups=1 if depthwise else layer.groups), atoms, writer=True)

    def _tie_uses(self, path: str, *atoms: Any) -> None:
        """A layer has the same channels wherever it is used."""
        for first, present in zip(self.uses.setdefault(path, atoms), atoms, strict=True):
            self.atoms.tie(first, present)

    def _tie_parts(self, atoms: Any, count: int) -> None:
        """Channels at one place in equal parts stay or go together, so that the parts keep one size."""
        size = len(atoms) // count
        for start in range(size, len(atoms), size):
            self.atoms.tie(atoms[:size], atoms[start : start + size])

    def _window(
        self, node: Any, value: _Value, kernel: Pair, stride: Pair, dilation: Pair, own: tuple[Pair, Pair]
    ) -> tuple[int, tuple[Pair, Pair]]:
        """The tensor to read and the padding left to the operator: SAME, VALID, or a PAD operator before it."""
        sizes = self._spatial(value.tensor)
        total = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(value.padding, own, strict=True)]
        vertical, horizontal = zip(sizes, kernel, stride, dilation, total, strict=True)
        reached = (reached_padding(*vertical), reached_padding(*horizontal))
        same = (same_padding(*vertical[:4]), same_padding(*horizontal[:4]))
        if reached in (same, NO_PADDING):
            return value.tensor, reached
        return self._pad(node, _Value(value.tensor, reached)).tensor, NO_PADDING

    def dense(self, node: Any, layer: nn.Linear) -> None:
        """Dense layer: a VALID convolution as large as its input."""
        path, value = str(node.target), self._operand(node)
        tensor = self._settled(node, value)
        atoms = self.atoms.new(layer.out_features, fixed=self._is_frozen(path))
        self._tie_uses(path, self.tensor_atoms[tensor], atoms)
        op = Op(Kind.CONV, path, (tensor,), -1, kernel=self._spatial(tensor), layer=path)
        self._emit(node, op, atoms, writer=True)

    def transposed(self, node: Any, layer: layers.TransposedConvolution) -> None:
        """Transposed convolution: padding cuts off what SAME does, nothing, or what a SLICE leaves out."""
        path, tensor = str(node.target), self._settled(node, self._operand(node))
        atoms = self.atoms.new(layer.out_channels, fixed=self._is_frozen(path))
        self._tie_uses(path, self.tensor_atoms[tensor], atoms)
        _, height, width = self._size(node)
        axes = zip((height, width), layer.kernel_size, layer.stride, strict=True)
        rows, columns = (same_padding(*axis) for axis in axes)
        begin = layer.padding
        counts = (-(-height // layer.stride[0]), -(-width // layer.stride[1]))
        same = begin == (rows[0], columns[0]) and counts == self._spatial(tensor)
        padding = (rows, columns) if same and begin != (0, 0) else NO_PADDING
        op = Op(Kind.TRANSPOSE_CONV, path, (tensor,), -1, layer.kernel_size, layer.stride, padding=padding, layer=path)
        if same or begin == (0, 0):
            self._emit(node, op, atoms, writer=True)
            return
        sizes = zip(self._spatial(tensor), layer.kernel_size, layer.stride, begin, (height, width), strict=True)
        least = [max((count - 1) * step + kernel, cut + made) for count, kernel, step, cut, made in sizes]
        whole = self._tensor(f"{path}.whole", least[0], least[1], atoms)
        self.ops.append(replace(op, output=whole, anchor=node.name))
        self.writers.add(len(self.ops) - 1)
        self._emit(node, Op(Kind.SLICE, f"{path}.cut", (whole,), -1, begin=begin), atoms)

    def _layer_behind(self, position: int) -> int:
        """The operator itself, or the transposed convolution whose border it cuts off."""
        pair = position > 0 and self.ops[position - 1].anchor == self.ops[position].anchor
        return position - 1 if pair and self.ops[position].kind is Kind.SLICE else position

    def _extend(self, position: int, node: Any, **fields: Any) -> None:
        """Let an operator, and what cuts off its border, compute one more node."""
        first = self._layer_behind(position)
        for at in range(first, position + 1):
            own = fields if at == first else {"anchor": fields["anchor"]} if "anchor" in fields else {}
            self.ops[at] = replace(self.ops[at], **own, node=node.name if at == position else self.ops[at].node)

    def prelu(self, node: Any, layer: layers.PReLU) -> None:
        """A slope below zero for each channel."""
        path, tensor = str(node.target), self._settled(node, self._operand(node))
        if layer.weight.numel() > 1:
            self._tie_uses(path, self.tensor_atoms[tensor])
        self._emit(node, Op(Kind.PRELU, path, (tensor,), -1, layer=path), self.tensor_atoms[tensor])

    def scale(self, node: Any, layer: Any) -> None:
        """Batch normalisation, constants: folded into the layer before it, else a 1x1 depthwise operator."""
        path, value, source = str(node.target), self._operand(node), node.args[0]
        self._tie_uses(path, self.tensor_atoms[value.tensor])
        last = len(self.ops) - 1
        op = self.ops[self._layer_behind(last)] if self.ops else None
        bare = op and op.kind in _WEIGHTED and op.layer and not op.norm and op.activation is Activation.NONE
        if op and bare and self.ops[last].node == source.name and len(source.users) == 1:
            self._extend(last, node, norm=path, anchor=node.name)
            self.values[node] = value
            return
        tensor = self._settled(node, value)
        self._emit(node, Op(Kind.DEPTHWISE, path, (tensor,), -1, norm=path), self.tensor_atoms[tensor], writer=True)

    def relu(self, node: Any, activation: Activation, bounds: tuple[float, float] | None = None) -> None:
        """ReLU and bounds: fused into the operator before it when its output has no other consumer.

        A separate operator clamps by the range of its output: RELU, or, for a bound below zero, LEAKY_RELU of slope 1.
        """
        value, source = self._operand(node), node.args[0]
        position = self._producer(value.tensor)
        if position is not None and value.padding == NO_PADDING:
            op = self.ops[self._layer_behind(position)]
            if op.activation is activation and bounds in (None, op.bounds):
                self.values[node] = value
                return
            bare = op.activation is Activation.NONE and op.bounds is None
            last = self.ops[position].node == source.name and len(source.users) == 1
            if bare and op.kind in _FUSABLE and last:
                self._extend(position, node, activation=activation, bounds=bounds)
                self.values[node] = value
                return
        tensor = self._settled(node, value)
        if activation is Activation.RELU6:
            activation, bounds = Activation.RELU, (0.0, 6.0)
        kind, alpha = (Kind.LEAKY_RELU, 1.0) if activation is Activation.NONE else (Kind.RELU, 0.0)
        op = Op(kind, self._path(node), (tensor,), -1, activation=activation, bounds=bounds, alpha=alpha)
        self._emit(node, op, self.tensor_atoms[tensor])

    def limit(self, node: Any) -> None:
        """Bounds around zero."""
        low, high = node.args[1:]
        self.relu(node, Activation.RELU if low == 0 else Activation.NONE, (low, high))

    def _producer(self, tensor: int) -> int | None:
        return next((i for i, op in enumerate(self.ops) if op.output == tensor), None)

    def add(self, node: Any) -> None:
        """Sum of two equal shapes: ties their channels one to one."""
        left, right = (self._settled(node, self.values[argument]) for argument in node.args)
        self.atoms.tie(self.tensor_atoms[left], self.tensor_atoms[right])
        self._emit(node, Op(Kind.ADD, self._path(node), (left, right), -1), self.tensor_atoms[left])

    def multiply(self, node: Any) -> None:
        """Product of two maps, or of a map and one value for each of its channels: ties their channels."""
        left, right = (self._settled(node, self.values[argument]) for argument in node.args)
        self.atoms.tie(self.tensor_atoms[left], self.tensor_atoms[right])
        if all(self._is_written_by(side, (Kind.LOGISTIC,)) for side in (left, right)):
            self.atoms.fix(self.tensor_atoms[left])
        self._emit(node, Op(Kind.MUL, self._path(node), (left, right), -1), self.tensor_atoms[left])

    def table(self, node: Any, kind: Kind, alpha: float = 0.0) -> None:
        """An activation that is a separate operator."""
        tensor = self._settled(node, self._operand(node))
        if kind is Kind.LOGISTIC and any(user.target is not torch.mul for user in node.users):
            self.atoms.fix(self.tensor_atoms[tensor])  # of a channel that is gone 0.5 would be left
        op = Op(kind, self._path(node), (tensor,), -1, alpha=alpha)
        self._emit(node, op, self.tensor_atoms[tensor])

    def _is_written_by(self, tensor: int, kinds: Collection[Kind]) -> bool:
        """Whether an operator of these kinds gives a tensor its codes, which pools and padding copy."""
        return any(op is not None and op.kind in kinds for op in self._sources(tensor))

    def _end(self, op: Op | None) -> Any:
        """Whatever says where the codes of an operator's output end, if not the values."""
        return (op.kind if op.kind in FIXED_RANGES else op.bounds) if op else None

    def _free(self, node: Any, source: int) -> int:
        """A tensor in codes of its own choice: LEAKY_RELU of slope 1."""
        name = f"{self._path(node)}.rescaled"
        tensor = self._tensor(name, *self._spatial(source), self.tensor_atoms[source])
        self.ops.append(Op(Kind.LEAKY_RELU, name, (source,), tensor, alpha=1.0))
        return tensor

    def _sources(self, tensor: int) -> list[Op | None]:
        """The operators whose codes a tensor holds, copied or pooled; None for the input."""
        position = self._producer(tensor)
        op = None if position is None else self.ops[position]
        if op is None or op.kind not in _ORDERED:
            return [op]
        return [source for read in op.inputs for source in self._sources(read)]

    def concat(self, node: Any) -> None:
        """Concatenation along the channels: lays them side by side."""
        parts = tuple(self._settled(node, self.values[argument]) for argument in node.args[0])
        ends = [{self._end(op) for op in self._sources(part)} for part in parts]
        if len(set().union(*ends)) > 1:  # codes of one scale for all would end elsewhere
            parts = tuple(
                self._free(node, part) if own != {None} else part for part, own in zip(parts, ends, strict=True)
            )
        atoms = np.concatenate([self.tensor_atoms[part] for part in parts])
        self._emit(node, Op(Kind.CONCAT, self._path(node), self._joined_in_part(node, parts), -1), atoms)
        self.joined[parts] = self.values[node].tensor

    def _joined_in_part(self, node: Any, parts: tuple[int, ...]) -> tuple[int, ...]:
        """Parts that lie side by side already are read from there, and more than can be joined at once in two steps.

        In a dense block every layer reads all that came before: joined anew each time, all parts would stay alive.
        """
        known = next((count for count in range(len(parts) - 1, 1, -1) if parts[:count] in self.joined), 0)
        if known:
            parts = (self.joined[parts[:known]], *parts[known:])
        while len(parts) > MOST_JOINED:
            name = f"{self._path(node)}.part"
            first, rest = parts[:MOST_JOINED], parts[MOST_JOINED:]
            tensor = self._tensor(name, *self._spatial(first[0]), np.concatenate([self.tensor_atoms[p] for p in first]))
            self.ops.append(Op(Kind.CONCAT, name, first, tensor))
            parts = (tensor, *rest)
        return parts

    def pool(self, node: Any, kind: Kind) -> None:
        """A pool; padding that is not SAME becomes a PAD operator, of zeros where they change no maximum."""
        value = self._operand(node)
        kernel, stride, padding = node.args[1:]
        if value.constant:
            padding, value = _added(padding, value.padding), _Value(value.tensor)
        tensor = self._settled(node, value)
        sizes = self._spatial(tensor)
        same = tuple(same_padding(*axis) for axis in zip(sizes, kernel, stride, strict=True))
        if padding not in (NO_PADDING, same):
            if kind is Kind.AVG_POOL:
                refuse(
                    place_of(node),
                    f"an average pool of {kernel} at stride {stride} with padding {padding} on a map of {sizes}",
                    "allowed are padding that equals TensorFlow's SAME, none, and zeros that count in the mean",
                )
            least = 0.0 if self._is_rectified(tensor) else -np.inf
            tensor, padding = self._pad(node, _Value(tensor, padding, least)).tensor, NO_PADDING
        op = Op(kind, self._path(node), (tensor,), -1, kernel, stride, (1, 1), padding)
        self._emit(node, op, self.tensor_atoms[tensor])

    def _is_rectified(self, tensor: int) -> bool:
        """Whether no value is below zero."""
        position = self._producer(tensor)
        if position is None:
            return False
        op = self.ops[position]
        if op.activation is not Activation.NONE:
            return True
        below = op.kind is Kind.PADV2 and -np.inf < op.value < 0
        return op.kind in _ORDERED and not below and all(self._is_rectified(source) for source in op.inputs)

    def global_pool(self, node: Any, kind: Kind) -> None:
        """A pool over the whole map."""
        tensor = self._settled(node, self._operand(node))
        sizes = self._spatial(tensor)
        op = Op(kind, self._path(node), (tensor,), -1, sizes, sizes)
        self._emit(node, op, self.tensor_atoms[tensor])

    def enlarge(self, node: Any) -> None:
        """Nearest-neighbour upsampling."""
        tensor = self._settled(node, self._operand(node))
        op = Op(Kind.RESIZE, self._path(node), (tensor,), -1, kernel=node.args[1])
        self._emit(node, op, self.tensor_atoms[tensor])

    def interpolate(self, node: Any) -> None:
        """Bilinear interpolation."""
        tensor = self._settled(node, self._operand(node))
        sampling = Sampling.CORNERS if node.args[2] else Sampling.CENTRES
        op = Op(Kind.BILINEAR, self._path(node), (tensor,), -1, sampling=sampling)
        self._emit(node, op, self.tensor_atoms[tensor])

    def cut(self, node: Any) -> None:
        """Some rows and columns."""
        tensor = self._settled(node, self._operand(node))
        begin, _, step = node.args[1:]
        op = Op(Kind.SLICE, self._path(node), (tensor,), -1, stride=step, begin=begin)
        self._emit(node, op, self.tensor_atoms[tensor])

    def gather(self, node: Any, layer: layers.Gather) -> None:
        """Some channels; a shuffle of equal parts ties the channels at one place in them."""
        tensor = self._settled(node, self._operand(node))
        atoms = self.tensor_atoms[tensor]
        for parts in (p for p in range(2, len(atoms)) if len(atoms) % p == 0):
            if layer.order == tuple(np.arange(len(atoms)).reshape(parts, -1).T.ravel().tolist()):
                self._tie_parts(atoms, parts)
        op = Op(Kind.GATHER, str(node.target), (tensor,), -1, order=layer.order)
        self._emit(node, op, atoms[list(layer.order)])

    def pad(self, node: Any) -> None:
        """Zero padding, which the next operator may absorb; another constant is a PADV2, and keeps all channels."""
        value, constant = self._operand(node), float((*node.args, 0.0)[2])
        if constant != value.constant:
            value = _Value(self._settled(node, value), NO_PADDING, constant)
        value = replace(value, padding=_added(value.padding, node.args[1]))
        if constant and np.isfinite(constant):
            self.atoms.fix(self.tensor_atoms[value.tensor])
            if any(self._end(source) is not None for source in self._sources(value.tensor)):
                value = replace(value, tensor=self._free(node, value.tensor))
            value = self._pad(node, value)
        self.values[node] = value

    def flatten(self, node: Any) -> None:
        """Flattening is free: a dense layer is a convolution as large as the map."""
        self.values[node] = _Value(self._settled(node, self._operand(node)))

    def alias(self, node: Any, layer: nn.Module | None = None) -> None:
        """Layers without effect at inference."""
        self.values[node] = self._operand(node)


def _added(inner: tuple[Pair, Pair], outer: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    rows, columns = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(inner, outer, strict=True))
    return rows, columns


def _pair(values: Any) -> Pair:
    return int(values[0]), int(values[1])


_ORDERED = (
    Kind.MAX_POOL, Kind.AVG_POOL, Kind.PAD, Kind.PADV2, Kind.CONCAT, Kind.RESIZE, Kind.BILINEAR, Kind.SLICE,
    Kind.GATHER,
)  # fmt: skip
"""Operators whose outputs are not below zero where their inputs are not."""

_LAYERS: dict[Any, Callable[..., None]] = {
    layers.Convolution: Lowering.convolution,
    layers.TransposedConvolution: Lowering.transposed,
    layers.PReLU: Lowering.prelu,
    nn.Linear: Lowering.dense,
    (nn.BatchNorm1d, nn.BatchNorm2d, layers.Affine): Lowering.scale,
    layers.Gather: Lowering.gather,
    (nn.Dropout, nn.Dropout2d, nn.AlphaDropout): Lowering.alias,
}

_FUNCTIONS: dict[Any, Callable[[Lowering, fx.Node], None]] = {
    F.relu: lambda b, n: b.relu(n, Activation.RELU),
    F.relu6: lambda b, n: b.relu(n, Activation.RELU6),
    layers.limited: Lowering.limit,
    torch.add: Lowering.add,
    torch.mul: Lowering.multiply,
    torch.sigmoid: lambda b, n: b.table(n, Kind.LOGISTIC),
    torch.tanh: lambda b, n: b.table(n, Kind.TANH),
    F.hardswish: lambda b, n: b.table(n, Kind.HARD_SWISH),
    F.leaky_relu: lambda b, n: b.table(n, Kind.LEAKY_RELU, float(cast(float, n.args[1]))),
    F.elu: lambda b, n: b.table(n, Kind.ELU),
    layers.concatenate: Lowering.concat,
    layers.max_pool: lambda b, n: b.pool(n, Kind.MAX_POOL),
    layers.average_pool: lambda b, n: b.pool(n, Kind.AVG_POOL),
    layers.global_max_pool: lambda b, n: b.global_pool(n, Kind.MAX_POOL),
    layers.global_average_pool: lambda b, n: b.global_pool(n, Kind.AVG_POOL),
    layers.pad: Lowering.pad,
    layers.enlarge: Lowering.enlarge,
    layers.interpolate: Lowering.interpolate,
    layers.cut: Lowering.cut,
    layers.as_row: Lowering.flatten,
    layers.as_image: Lowering.alias,
}
