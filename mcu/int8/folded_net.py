"""The network as the exported int8 model computes it, in floating point: trainable, with optional fake quantisation.

Each operator of the ``Graph`` is one step; batch normalisation is folded into weights and biases. With fake
quantisation on, weights and activations are rounded to the exporter's int8 grids and gradients pass straight through
(Jacob et al., CVPR 2018; Krishnamoorthi, "Quantizing deep convolutional networks", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mcu.errors import InputError
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.layers import cut, enlarge, gather, interpolate, limited, transposed
from mcu.int8.fake_quantisation import affine, rounded, rounded_weight
from mcu.int8.structure import structure_of_graph

Observer = Callable[[int, torch.Tensor], None]
Batch = tuple[torch.Tensor, ...]
"""Of each input, or each output."""


class FoldedNet(nn.Module):
    """A trained module, folded.

    Takes inputs ``(N, C, H, W)`` (or ``(N, C, L)`` or ``(N, C)``) and returns logits ``(N, classes)``, flat; of several
    outputs a tuple.

    Attributes:
        graph: the operators it runs.
        weights, biases: per operator index (as text), ``(out, in / groups, kh, kw)`` and ``(out,)``.
        slopes: per operator index of a PRELU, ``(channels,)``.
        ranges: low and high end of each quantisation class, by its lowest tensor; float32 ``(tensors, 2)``.
        calibrated: whether ``ranges`` has been filled.
        fake: whether fake quantisation is on.
    """

    ranges: torch.Tensor
    calibrated: torch.Tensor

    def __init__(self, graph: Graph, module: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        structure = structure_of_graph(graph)
        self.roots, self.rectified = structure.quantisation_classes
        self.weights, self.biases, self.slopes = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for index, op in enumerate(graph.ops):
            if op.kind is Kind.PRELU:
                self.slopes[str(index)] = nn.Parameter(_slopes(graph, op, module))
            if op.kind in _WEIGHTED:
                weight, bias = _folded(graph, op, module)
                self.weights[str(index)], self.biases[str(index)] = nn.Parameter(weight), nn.Parameter(bias)
        device = next(iter(self.weights.values())).device if len(self.weights) else None
        self.register_buffer("ranges", torch.zeros(len(graph.tensors), 2, device=device))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool, device=device))
        self._grids: list[tuple[float, int]] | None = None
        self.fake = False

    def fake_quantise(self, on: bool) -> None:
        """Switch fake quantisation on or off.

        Raises:
            InputError: if the network has not been calibrated.
        """
        if on and not bool(self.calibrated):
            raise InputError("fake quantisation: the network has no ranges yet; call calibrate first")
        self.fake = on

    def forward(self, *x: torch.Tensor) -> Any:
        """Logits, of every output."""
        found = self.run(*x)
        return found[0] if len(found) == 1 else found

    def run(
        self, *x: torch.Tensor, observer: Observer | None = None, before: Observer | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Forward pass that passes intermediate tensors to observers; all outputs.

        Args:
            x: inputs, in order.
            observer: called with each tensor's index and final value.
            before: called with each operator's index and its value before the activation.
        """
        grids = self.grids() if self.fake else None
        values: dict[int, torch.Tensor] = {}
        for port, given in zip(self.graph.inputs, x, strict=True):
            image = given.reshape(*given.shape, *(1,) * (4 - given.ndim))
            values[port.tensor] = _on_grid(image, grids, port.tensor)
            if observer:
                observer(port.tensor, values[port.tensor])
        last_use = {tensor: last for tensor, (_, last) in enumerate(self.graph.last_uses())}
        for index, op in enumerate(self.graph.ops):
            y = self._value(index, op, [values[tensor] for tensor in op.inputs])
            if before:
                before(index, y)
            y = _activated(y, op)
            values[op.output] = y if op.kind in _KEEP_CODES else _on_grid(y, grids, op.output)
            if observer:
                observer(op.output, values[op.output])
            for tensor in set(op.inputs):
                if last_use[tensor] == index:
                    del values[tensor]
        return tuple(values[port.tensor].flatten(1) for port in self.graph.outputs)

    def _value(self, index: int, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
        x = inputs[0]
        if op.kind in _WEIGHTED:
            weight, bias = self.weights[str(index)], self.biases[str(index)]
            if self.fake:
                weight = rounded_weight(weight)
            if op.kind is Kind.TRANSPOSE_CONV:
                (top, _), (left, _) = op.padding
                return transposed(x, weight, bias, op.stride, (top, left), self._size(op))
            if op.kind is Kind.CONV:
                return _convolved(x, weight, bias, op, op.groups)
            with torch.autocast(x.device.type, enabled=False):  # slow in bfloat16: pruning/training/precision.py
                return _convolved(x.to(weight.dtype), weight, bias, op, x.shape[1])
        if op.kind is Kind.ADD:
            return inputs[0] + inputs[1]
        if op.kind is Kind.CONCAT:
            return torch.cat(inputs, 1)
        if op.kind is Kind.MAX_POOL:
            return functional.max_pool2d(_padded(x, op, -torch.inf), op.kernel, op.stride)
        if op.kind is Kind.AVG_POOL:
            return _average(x, op)
        if op.kind in (Kind.PAD, Kind.PADV2):
            return _padded(x, op, op.value)
        if op.kind is Kind.RELU:
            return x
        if op.kind is Kind.RESIZE:
            return enlarge(x, op.kernel)
        if op.kind is Kind.SLICE:
            return cut(x, op.begin, self._size(op), op.stride)
        if op.kind is Kind.BILINEAR:
            return interpolate(x, self._size(op), op.sampling is Sampling.CORNERS)
        if op.kind is Kind.PRELU:
            slopes = self.slopes[str(index)]
            slopes = rounded_weight(slopes[None, :, None, None]).flatten() if self.fake else slopes
            return functional.prelu(x, slopes.to(x.dtype))
        if op.kind is Kind.GATHER:
            return gather(x, op.order)
        if op.kind is Kind.MUL:
            return inputs[0] * inputs[1]
        if op.kind in _FUNCTIONS:
            return _FUNCTIONS[op.kind](x, op.alpha)
        raise InputError(f"network layer '{op.name}' ({op.kind}): no floating-point step for it")

    def _size(self, op: Op) -> tuple[int, int]:
        tensor = self.graph.tensors[op.output]
        return tensor.height, tensor.width

    def grids(self) -> list[tuple[float, int]]:
        """Scale and zero point of every tensor, from ``ranges``."""
        if self._grids is None:
            ends = self.ranges.tolist()
            self._grids = [affine(*ends[root]) for root in self.roots]
        return self._grids

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.ranges_changed()

    def ranges_changed(self) -> None:
        """Call it when `ranges` has new values."""
        self._grids = None


_FUNCTIONS: dict[Kind, Callable[[torch.Tensor, float], torch.Tensor]] = {
    Kind.LOGISTIC: lambda x, alpha: torch.sigmoid(x),
    Kind.TANH: lambda x, alpha: torch.tanh(x),
    Kind.HARD_SWISH: lambda x, alpha: functional.hardswish(x),
    Kind.LEAKY_RELU: lambda x, alpha: functional.leaky_relu(x, alpha),
    Kind.ELU: lambda x, alpha: functional.elu(x),
}
"""What the operators that are tables in int8 compute."""

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.TRANSPOSE_CONV)

_KEEP_CODES = (Kind.PAD, Kind.MAX_POOL, Kind.CONCAT, Kind.RESIZE, Kind.SLICE, Kind.GATHER)
"""Operators whose output values are on the input's grid already."""


def _on_grid(x: torch.Tensor, grids: list[tuple[float, int]] | None, tensor: int) -> torch.Tensor:
    if grids is None:
        return x
    return rounded(x, *grids[tensor])


def _activated(x: torch.Tensor, op: Op) -> torch.Tensor:
    if op.bounds:
        return limited(x, *op.bounds)
    if op.activation is Activation.RELU:
        return functional.relu(x)
    return functional.relu6(x) if op.activation is Activation.RELU6 else x


def _convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, op: Op, groups: int = 1) -> torch.Tensor:
    (top, bottom), (left, right) = op.padding
    if (top, left) == (bottom, right):  # padding apart from the convolution is a copy more, and one more of gradients
        return functional.conv2d(x, weight, bias, op.stride, (top, left), op.dilation, groups)
    return functional.conv2d(_padded(x, op, 0.0), weight, bias, op.stride, 0, op.dilation, groups)


def _padded(x: torch.Tensor, op: Op, value: float) -> torch.Tensor:
    (top, bottom), (left, right) = op.padding
    if not (top or bottom or left or right):
        return x
    return functional.pad(x, (left, right, top, bottom), value=value)


def _average(x: torch.Tensor, op: Op) -> torch.Tensor:
    """Mean over the positions inside the image."""
    if op.padding == ((0, 0), (0, 0)):
        return functional.avg_pool2d(x, op.kernel, op.stride)
    inside = _padded(torch.ones_like(x[:1, :1]), op, 0.0)
    sums = functional.avg_pool2d(_padded(x, op, 0.0), op.kernel, op.stride, divisor_override=1)
    return sums / functional.avg_pool2d(inside, op.kernel, op.stride, divisor_override=1)


@torch.no_grad()
def _folded(graph: Graph, op: Op, module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights ``(out, in / groups, kh, kw)`` and bias with the operator's batch normalisation folded in."""
    channels = graph.tensors[op.output].channels
    layer: Any = module.get_submodule(op.layer) if op.layer else None
    norm: Any = module.get_submodule(op.norm) if op.norm else None
    if layer is not None:
        weight = layer.weight.detach().reshape(channels, -1, *op.kernel)
        bias = weight.new_zeros(channels) if layer.bias is None else layer.bias.detach()
    else:
        weight = torch.ones(channels, 1, 1, 1, device=norm.running_mean.device, dtype=norm.running_mean.dtype)
        bias = weight.new_zeros(channels)
    if norm is not None:
        gain = 1.0 if norm.weight is None else norm.weight.detach()
        shift = 0.0 if norm.bias is None else norm.bias.detach()
        factor = gain / torch.sqrt(norm.running_var + norm.eps)
        weight = weight * factor[:, None, None, None]
        bias = (bias - norm.running_mean) * factor + shift
    return weight.clone(), bias.clone()


def _slopes(graph: Graph, op: Op, module: nn.Module) -> torch.Tensor:
    """Of a PReLU, one for each channel."""
    layer: Any = module.get_submodule(str(op.layer))
    slopes: torch.Tensor = layer.weight.detach().expand(graph.tensors[op.output].channels).clone()
    return slopes
