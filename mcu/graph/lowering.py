"""From fx nodes to operators: one rule per layer type or function, folding what the exported model folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph.channels import Atoms, assign_groups
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind
from mcu.graph.windows import NO_PADDING, Pair, own_padding, padding_pairs, pair_of, reached_padding, same_padding

_FUSABLE = (Kind.CONV, Kind.DEPTHWISE, Kind.ADD)
_INSTEAD = {
    "GELU": "ReLU or ReLU6", "SiLU": "ReLU or ReLU6", "Hardswish": "ReLU6", "LeakyReLU": "ReLU", "PReLU": "ReLU",
    "Sigmoid": "ReLU or ReLU6", "Tanh": "ReLU6", "ELU": "ReLU", "LayerNorm": "BatchNorm2d", "GroupNorm": "BatchNorm2d",
    "InstanceNorm2d": "BatchNorm2d", "Softmax": "the logits as output", "LogSoftmax": "the logits as output",
    "ConvTranspose2d": "Conv2d", "LSTM": "a convolution over time", "GRU": "a convolution over time",
}  # fmt: skip


@dataclass(frozen=True)
class _Value:
    """What an fx node stands for: a tensor, with zeros still to be added around it, possibly seen flat."""

    tensor: int
    padding: tuple[Pair, Pair] = NO_PADDING
    flat: bool = False


class Lowering:
    """Walks the fx nodes once, in order, and collects operators and tensors."""

    def __init__(self, module: fx.GraphModule, frozen: set[str]) -> None:
        self.module = module
        self.modules = dict(module.named_modules())
        self.frozen = frozen
        self.values: dict[fx.Node, _Value] = {}
        self.ops: list[Op] = []
        self.writers: set[int] = set()
        self.atoms = Atoms()
        self.tensor_atoms: list[Any] = []
        self.shapes: list[tuple[str, int, int]] = []
        self.used_layers: set[str] = set()

    def build(self) -> Graph:
        """Visit every node and assign channel groups."""
        inputs, output = [], None
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(self._input(node))
            elif node.op == "output":
                output = node.args[0]
            elif "tensor_meta" in node.meta:
                self._visit(node)
        if len(inputs) != 1:
            raise InputError(f"network: it takes {len(inputs)} inputs; allowed is exactly one")
        if not isinstance(output, fx.Node):
            raise InputError("network: it returns several values; allowed is one tensor of class scores")
        result = self.values[output].tensor
        self.atoms.fix(self.tensor_atoms[result])
        tensors, groups = assign_groups(self.ops, self.tensor_atoms, self.shapes, self.atoms, self.writers)
        return Graph(tensors, tuple(self.ops), groups, inputs[0], result)

    # --- tensors -------------------------------------------------------------------------------------------

    def _size(self, node: Any) -> tuple[int, int, int]:
        shape = tuple(node.meta["tensor_meta"].shape)
        if len(shape) > 4 or len(shape) < 2:
            raise InputError(
                f"layer '{node.name}': a tensor of shape {shape}; allowed are (N, C), (N, C, L), (N, C, H, W)"
            )
        channels, *rest = shape[1:]
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

    def _spatial(self, tensor: int) -> Pair:
        return self.shapes[tensor][1:]

    def _emit(self, node: Any, op: Op, atoms: Any, *, writer: bool = False) -> None:
        _, height, width = self._size(node)
        tensor = self._tensor(op.name, height, width, atoms)
        self.ops.append(replace(op, output=tensor, anchor=node.name, node=node.name))
        if writer:
            self.writers.add(len(self.ops) - 1)
        self.values[node] = _Value(tensor)

    def _operand(self, node: Any, argument: Any = None) -> _Value:
        source = node.args[0] if argument is None else argument
        if not isinstance(source, fx.Node) or source not in self.values:
            raise InputError(f"layer '{self._path(node)}': operand {source!r} is not a tensor of the network")
        return self.values[source]

    def _settled(self, node: Any, value: _Value) -> int:
        """The tensor itself; padding that no convolution absorbs becomes a PAD operator."""
        return self._pad(node, value).tensor if value.padding != NO_PADDING else value.tensor

    def _pad(self, node: Any, value: _Value) -> _Value:
        (top, bottom), (left, right) = value.padding
        height, width = self._spatial(value.tensor)
        name = f"{self._path(node)}.pad"
        tensor = self._tensor(name, height + top + bottom, width + left + right, self.tensor_atoms[value.tensor])
        self.ops.append(Op(Kind.PAD, name, (value.tensor,), tensor, padding=value.padding))
        return _Value(tensor)

    def _path(self, node: Any) -> str:
        return str(node.target) if node.op == "call_module" else node.name

    # --- operators -----------------------------------------------------------------------------------------

    def _visit(self, node: Any) -> None:
        if node.op == "call_module":
            target = self.modules[str(node.target)]
            for kinds, rule in _MODULE_RULES:
                if isinstance(target, kinds):
                    rule(self, node, target)
                    return
            self._unsupported(node, type(target).__name__)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        named_rule = _FUNCTION_RULES.get(name.lstrip("_"))
        if named_rule is None or node.op == "get_attr":
            self._unsupported(node, name)
            return
        named_rule(self, node)

    def _unsupported(self, node: Any, kind: str) -> None:
        hint = _INSTEAD.get(kind)
        advice = (
            f"use {hint} instead"
            if hint
            else (
                "allowed are Conv, Linear, BatchNorm, ReLU, ReLU6, add, cat, max and average pools, zero pads, Dropout"
            )
        )
        raise InputError(f"network layer '{self._path(node)}' ({kind}) has no int8 kernel in mcusweep: {advice}")

    def _claim(self, node: Any) -> str:
        path = str(node.target)
        if path in self.used_layers:
            raise InputError(f"network layer '{path}' is used twice; allowed is one use of each layer with weights")
        self.used_layers.add(path)
        return path

    def convolution(self, node: Any, layer: nn.Conv1d | nn.Conv2d) -> None:
        """Convolution or depthwise convolution, 1-D or 2-D."""
        path, value = self._claim(node), self._operand(node)
        if layer.padding_mode != "zeros":
            raise InputError(f"network layer '{path}': padding_mode '{layer.padding_mode}'; allowed is 'zeros'")
        kernel, stride, dilation = (pair_of(v) for v in (layer.kernel_size, layer.stride, layer.dilation))
        depthwise = layer.groups > 1
        if depthwise and layer.groups != layer.in_channels:
            raise InputError(
                f"network layer '{path}': groups={layer.groups} with {layer.in_channels} input channels; "
                "allowed are groups=1 or depthwise (groups equal to the input channels)"
            )
        tensor, padding = self._window(
            node, value, kernel, stride, dilation, own_padding(layer.padding, kernel, dilation)
        )
        if depthwise:
            atoms = self.tensor_atoms[tensor].repeat(layer.out_channels // layer.in_channels)
        else:
            atoms = self.atoms.new(layer.out_channels, fixed=path in self.frozen)
        if path in self.frozen:
            self.atoms.fix(atoms)
        kind = Kind.DEPTHWISE if depthwise else Kind.CONV
        op = Op(kind, path, (tensor,), -1, kernel, stride, dilation, padding, layer=path)
        self._emit(node, op, atoms, writer=True)

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
        path, value = self._claim(node), self._operand(node)
        tensor = self._settled(node, value)
        atoms = self.atoms.new(layer.out_features, fixed=path in self.frozen)
        op = Op(Kind.CONV, path, (tensor,), -1, kernel=self._spatial(tensor), layer=path)
        self._emit(node, op, atoms, writer=True)

    def batch_norm(self, node: Any, layer: Any) -> None:
        """Batch normalisation: folded into the layer before it, else a 1x1 depthwise operator."""
        path, value = self._claim(node), self._operand(node)
        op = self.ops[-1] if self.ops else None
        source = node.args[0]
        bare = op and op.layer and not op.norm and op.activation is Activation.NONE
        if op and bare and op.node == getattr(source, "name", "") and len(source.users) == 1:
            self.ops[-1] = replace(op, norm=path, anchor=node.name, node=node.name)
            self.values[node] = value
            return
        tensor = self._settled(node, value)
        self._emit(node, Op(Kind.DEPTHWISE, path, (tensor,), -1, norm=path), self.tensor_atoms[tensor], writer=True)

    def relu(self, node: Any, layer: nn.Module | None = None, activation: Activation = Activation.RELU) -> None:
        """ReLU: fused into the operator before it when that has no other reader."""
        value, source = self._operand(node), node.args[0]
        position = self._producer(value.tensor)
        if position is not None:
            op = self.ops[position]
            if op.activation is activation:
                self.values[node] = value
                return
            fusable = op.kind in _FUSABLE and op.activation is Activation.NONE and op.node == source.name
            if fusable and len(source.users) == 1 and value.padding == NO_PADDING:
                self.ops[position] = replace(op, activation=activation, node=node.name)
                self.values[node] = value
                return
        tensor = self._settled(node, value)
        self._emit(
            node,
            Op(Kind.RELU, self._path(node), (tensor,), -1, activation=activation),
            self.tensor_atoms[tensor],
        )

    def _producer(self, tensor: int) -> int | None:
        return next((i for i, op in enumerate(self.ops) if op.output == tensor), None)

    def relu6(self, node: Any, layer: nn.Module | None = None) -> None:
        """ReLU6, which torch derives from Hardtanh."""
        bounds = (getattr(layer, "min_val", 0.0), getattr(layer, "max_val", 6.0))
        if bounds != (0.0, 6.0):
            raise InputError(f"network layer '{self._path(node)}': Hardtanh{bounds}; allowed is ReLU6, which is (0, 6)")
        self.relu(node, activation=Activation.RELU6)

    def add(self, node: Any) -> None:
        """Sum of two equal shapes: ties their channels one to one."""
        if node.kwargs.get("alpha", 1) != 1:
            raise InputError(f"network layer '{node.name}': add with alpha; allowed is a plain sum")
        left, right = (self._settled(node, self._operand(node, argument)) for argument in node.args[:2])
        if self._spatial(left) != self._spatial(right) or len(self.tensor_atoms[left]) != len(self.tensor_atoms[right]):
            raise InputError(f"network layer '{node.name}': a sum of unequal shapes; allowed are equal shapes")
        self.atoms.tie(self.tensor_atoms[left], self.tensor_atoms[right])
        self._emit(node, Op(Kind.ADD, node.name, (left, right), -1), self.tensor_atoms[left])

    def concat(self, node: Any) -> None:
        """Concatenation along the channels: lays them side by side."""
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if dim not in (1, 1 - len(node.meta["tensor_meta"].shape)):
            raise InputError(f"network layer '{node.name}': cat along dimension {dim}; allowed is 1 (channels)")
        parts = tuple(self._settled(node, self._operand(node, argument)) for argument in node.args[0])
        atoms = np.concatenate([self.tensor_atoms[part] for part in parts])
        self._emit(node, Op(Kind.CONCAT, node.name, parts, -1), atoms)

    def pool(self, node: Any, kind: Kind, kernel: Pair, stride: Pair, padding: Pair, exact: bool = True) -> None:
        """A pool that TensorFlow Lite computes exactly as torch does."""
        value = self._operand(node)
        sizes = self._spatial(value.tensor)
        vertical, horizontal = zip(sizes, kernel, stride, (1, 1), ((p, p) for p in padding), strict=True)
        reached = (reached_padding(*vertical), reached_padding(*horizontal))
        same = (same_padding(*vertical[:4]), same_padding(*horizontal[:4]))
        if value.padding != NO_PADDING or reached not in (NO_PADDING, same) or not exact:
            raise InputError(
                f"network layer '{self._path(node)}': this padding or ceil_mode has no TensorFlow Lite pooling; "
                "allowed are no padding, or padding that equals SAME with count_include_pad=False"
            )
        op = Op(kind, self._path(node), (value.tensor,), -1, kernel, stride, (1, 1), reached)
        self._emit(node, op, self.tensor_atoms[value.tensor])

    def pool_layer(self, node: Any, layer: Any) -> None:
        """A pooling module."""
        kind = Kind.MAX_POOL if isinstance(layer, (nn.MaxPool1d, nn.MaxPool2d)) else Kind.AVG_POOL
        self._pool_arguments(node, kind, vars(layer))

    def pool_function(self, node: Any, kind: Kind) -> None:
        """A pooling function call."""
        names = ("kernel_size", "stride", "padding")
        given = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
        self._pool_arguments(node, kind, given)

    def _pool_arguments(self, node: Any, kind: Kind, given: dict[str, Any]) -> None:
        flat = len(node.meta["tensor_meta"].shape) == 3
        kernel = pair_of(given["kernel_size"], flat)
        stride = pair_of(given["stride"], flat) if given.get("stride") else kernel
        padding = pair_of(given.get("padding", 0), flat, fill=0)
        _, height, width = self._size(node)
        sizes = self._spatial(self._operand(node).tensor)
        floor = tuple((s + 2 * p - k) // t + 1 for s, p, k, t in zip(sizes, padding, kernel, stride, strict=True))
        includes = kind is Kind.AVG_POOL and any(padding) and given.get("count_include_pad", True)
        plain = pair_of(given.get("dilation", 1), flat) == (1, 1) and given.get("divisor_override") is None
        self.pool(node, kind, kernel, stride, padding, exact=floor == (height, width) and plain and not includes)

    def adaptive_pool(self, node: Any, layer: Any = None) -> None:
        """Global and evenly dividing adaptive pools; also ``mean`` over the spatial axes."""
        named = type(layer).__name__ if layer is not None else str(node.target)
        kind = Kind.MAX_POOL if "max" in named.lower() else Kind.AVG_POOL
        _, height, width = self._size(node)
        sizes = self._spatial(self._operand(node).tensor)
        if sizes[0] % height or sizes[1] % width:
            raise InputError(
                f"network layer '{self._path(node)}': adaptive pool {sizes} to {(height, width)}; allowed are divisors"
            )
        kernel = (sizes[0] // height, sizes[1] // width)
        self.pool(node, kind, kernel, kernel, (0, 0))

    def mean(self, node: Any) -> None:
        """Mean over the spatial axes: a global average pool."""
        dims: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        rank = len(self._operand_shape(node))
        wanted = set(range(2, rank))
        given = {d % rank for d in (dims if isinstance(dims, (tuple, list)) else [dims])} if dims is not None else set()
        if not wanted or given != wanted:
            raise InputError(
                f"network layer '{node.name}': mean over {dims}; allowed is the mean over all spatial axes"
            )
        self.adaptive_pool(node)

    def _operand_shape(self, node: Any) -> tuple[int, ...]:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        return tuple(source.meta["tensor_meta"].shape)

    def zero_pad(self, node: Any, layer: Any) -> None:
        """A zero padding module."""
        self._add_padding(node, padding_pairs(layer.padding))

    def pad_function(self, node: Any) -> None:
        """``torch.nn.functional.pad`` with zeros."""
        given = {**dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)), **node.kwargs}
        if given.get("mode", "constant") != "constant" or given.get("value") not in (None, 0, 0.0):
            raise InputError(f"network layer '{node.name}': padding that is not zeros; allowed is constant 0")
        self._add_padding(node, padding_pairs(given["pad"]))

    def _add_padding(self, node: Any, extra: tuple[Pair, Pair]) -> None:
        value = self._operand(node)
        if min(min(pair) for pair in extra) < 0:
            raise InputError(f"network layer '{self._path(node)}': negative padding {extra}; allowed are zeros around")
        rows, columns = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(value.padding, extra, strict=True))
        self.values[node] = replace(value, padding=(rows, columns))

    def flatten(self, node: Any, layer: nn.Module | None = None) -> None:
        """Flattening is free: only a dense layer can follow."""
        value = self._operand(node)
        shape = tuple(node.meta["tensor_meta"].shape)
        if len(shape) != 2:
            raise InputError(
                f"network layer '{self._path(node)}': reshape to {shape}; allowed is flattening to (N, features)"
            )
        self.values[node] = replace(value, tensor=self._settled(node, value), padding=NO_PADDING, flat=True)

    def alias(self, node: Any, layer: nn.Module | None = None) -> None:
        """Layers that do nothing at inference."""
        self.values[node] = self._operand(node)


_MODULE_RULES: tuple[tuple[tuple[type[nn.Module], ...], Callable[..., None]], ...] = (
    ((nn.Conv1d, nn.Conv2d), Lowering.convolution),
    ((nn.Linear,), Lowering.dense),
    ((nn.BatchNorm1d, nn.BatchNorm2d), Lowering.batch_norm),
    ((nn.ReLU,), Lowering.relu),
    ((nn.Hardtanh,), Lowering.relu6),  # ReLU6 is a Hardtanh
    ((nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d), Lowering.pool_layer),
    ((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), Lowering.adaptive_pool),
    ((nn.ZeroPad1d, nn.ZeroPad2d), Lowering.zero_pad),
    ((nn.Flatten,), Lowering.flatten),
    ((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), Lowering.alias),
)

_FUNCTION_RULES: dict[str, Callable[[Lowering, fx.Node], None]] = {
    "relu": Lowering.relu,
    "relu_": Lowering.relu,
    "relu6": Lowering.relu6,
    **dict.fromkeys(("add", "iadd", "add_"), Lowering.add),
    **dict.fromkeys(("cat", "concat", "concatenate"), Lowering.concat),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze"), Lowering.flatten),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "contiguous"), Lowering.alias),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), Lowering.adaptive_pool),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "boolean_dispatch"), lambda b, n: b.pool_function(n, Kind.MAX_POOL)),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), lambda b, n: b.pool_function(n, Kind.AVG_POOL)),
    "mean": Lowering.mean,
    "pad": Lowering.pad_function,
}
