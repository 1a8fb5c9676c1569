"""The network as the exported int8 model computes it, in floating point: trainable, with optional fake quantisation.

Each operator of the ``Graph`` is one step; batch normalisation is folded into weights and biases. With fake
quantisation on, weights and activations are rounded to the exporter's int8 grids and gradients pass straight through
(Jacob et al., CVPR 2018; Krishnamoorthi, "Quantizing deep convolutional networks", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mcu.errors import InputError
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.layers import cut, enlarge, gather, interpolate, limited, transposed
from mcu.graph.ports import each
from mcu.int8.lookup import FIXED_RANGES
from mcu.int8.structure import SAME_QUANTISATION, structure_of_graph

_LARGEST_MULTIPLIER = 8.0
"""Output codes per unit of a convolution's sum. Only an output that a ReLU shuts for all calibration data comes near;
beyond, one that opens for another input overflows the 32 bits in which TFLM shifts sums."""

_SAMPLES_PER_TENSOR = 1 << 16
_PERCENTILE = 0.9999
_LEAST_RANGE = 1e-6
_LEAST_WEIGHT_SCALE = 1e-9
_FINEST = {
    Kind.ADD: 2.0**-16,
    Kind.MUL: 2.0**-20,
    Kind.HARD_SWISH: 2.0**-6,
    Kind.LEAKY_RELU: 2.0**-16,
    Kind.PRELU: 2.0**-10,
    Kind.ELU: 2.0**-16,
}
"""Least range of an output, as a part of its inputs' ranges (of MUL: of their product): TFLM aborts the process below
2**-19 of a sum, which one gets to that its ReLU shuts for every input, and below 2**-7 of a HARD_SWISH."""

Observer = Callable[[int, torch.Tensor], None]
Batch = tuple[torch.Tensor, ...]
"""Of each input, or each output."""


class Calibration(StrEnum):
    """How the range of an activation is chosen from calibration values."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    OUTPUT = "output"  # MSE or MINMAX


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point of int8 codes that cover ``[low, high]`` and represent 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max(high - low, _LEAST_RANGE) / 255.0))
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def weight_scales(weights: torch.Tensor) -> torch.Tensor:
    """Symmetric per-channel scales to +-127; float32 ``(out,)`` of weights ``(out, in, kh, kw)``."""
    return (weights.detach().abs().amax((1, 2, 3)) / 127.0).clamp_min(_LEAST_WEIGHT_SCALE)


@dataclass
class _Seen:
    """What calibration inputs gave: by quantisation class the ends and some of the values; the outputs of each part."""

    ends: dict[int, tuple[float, float]] = field(default_factory=dict)
    values: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    outputs: list[Batch] = field(default_factory=list)


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
        self._fake = False

    def fake_quantise(self, on: bool) -> None:
        """Switch fake quantisation on or off.

        Raises:
            InputError: if the network has not been calibrated.
        """
        if on and not bool(self.calibrated):
            raise InputError("fake quantisation: the network has no ranges yet; call calibrate first")
        self._fake = on

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
        grids = self.grids() if self._fake else None
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
            if self._fake:
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
            slopes = rounded_weight(slopes[None, :, None, None]).flatten() if self._fake else slopes
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
        self._grids = None

    @torch.no_grad()
    def calibrate(
        self, x: torch.Tensor | Sequence[torch.Tensor], method: Calibration = Calibration.OUTPUT, batch: int = 256
    ) -> None:
        """Choose the range of every activation.

        Logits keep their full range with every method: clipped ones would tie. A single outlier spoils MINMAX;
        PERCENTILE and MSE are robust to it, but in some networks a class depends on rare values that they clip. OUTPUT
        takes what the outputs say.

        Args:
            x: representative inputs, normalised as for training; of several inputs a tuple.
            method: how to choose.
            batch: inputs run at a time.
        """
        fake, self._fake = self._fake, False
        parts = list(zip(*(given.split(batch) for given in each(x)), strict=True))
        seen = self._observed(parts)
        self.calibrated.fill_(True)
        if method is Calibration.OUTPUT:
            method = self._closest(parts, seen)
        self._choose(seen, method)
        self._fake = fake

    def _observed(self, parts: Sequence[Batch]) -> _Seen:
        """Outputs, and ends and values of every quantisation class."""
        seen = _Seen()
        produced = {op.output: op for op in self.graph.ops}

        def observe(tensor: int, value: torch.Tensor) -> None:
            root = self.roots[tensor]
            op = produced.get(tensor)
            if op is not None and op.kind in SAME_QUANTISATION and not (op.value and math.isfinite(op.value)):
                return
            low, high = seen.ends.get(root, (0.0, 0.0))
            lowest, highest = torch.aminmax(value)
            seen.ends[root] = min(low, float(lowest)), max(high, float(highest))
            flat = value.flatten()
            seen.values.setdefault(root, []).append(flat[:: max(1, len(flat) * len(parts) // _SAMPLES_PER_TENSOR)])

        for part in parts:
            seen.outputs.append(self.run(*part, observer=observe))
        return seen

    def _closest(self, parts: Sequence[Batch], seen: _Seen) -> Calibration:
        """MSE or MINMAX: the one with which fake-quantised outputs are closer to those in floating point.

        Of several outputs each counts by the error as a part of its values.
        """
        wanted = [torch.cat(column) for column in zip(*seen.outputs, strict=True)]
        errors = {}
        for method in (Calibration.MSE, Calibration.MINMAX):
            self._choose(seen, method)
            self._fake = True
            found = [torch.cat(column) for column in zip(*(self.run(*part) for part in parts), strict=True)]
            self._fake = False
            errors[method] = sum(
                float((ours - theirs).square().sum() / theirs.square().sum().clamp_min(1e-30))
                for ours, theirs in zip(found, wanted, strict=True)
            )
        return min(errors, key=lambda method: errors[method])

    def _choose(self, seen: _Seen, method: Calibration) -> None:
        returned = {self.roots[port.tensor] for port in self.graph.outputs}
        for root, (low, high) in seen.ends.items():
            if root in returned:
                pass
            elif method is Calibration.PERCENTILE:
                low, high = _percentile(torch.cat(seen.values[root]), low, high)
            elif method is Calibration.MSE:
                low, high = _least_error(torch.cat(seen.values[root]), low, high)
            self.ranges[root, 0], self.ranges[root, 1] = 0.0 if root in self.rectified else low, high
        for op in self.graph.ops:
            if op.kind in FIXED_RANGES:
                self.ranges[self.roots[op.output]] = torch.tensor(FIXED_RANGES[op.kind]).to(self.ranges)
        self._widen_sums()
        self._grids = None

    def _widen_sums(self) -> None:
        """Keep the range of an output from being next to nothing beside those of its inputs."""
        for index, op in enumerate(self.graph.ops):
            output = self.roots[op.output]
            widths = (self.ranges[:, 1] - self.ranges[:, 0]).clamp_min(_LEAST_RANGE)
            inputs = widths[[self.roots[tensor] for tensor in op.inputs]]
            if op.kind in _FINEST:
                least = _FINEST[op.kind] * (inputs.prod() if op.kind is Kind.MUL else inputs.max())
            elif str(index) in self.weights:
                least = inputs.max() * weight_scales(self.weights[str(index)]).max() / _LARGEST_MULTIPLIER
            else:
                continue
            self.ranges[output, 1] += (least - widths[output]).clamp_min(0.0)


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


def rounded(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Values fake-quantised to int8; straight-through gradients where no value was clipped.

    What ``torch.fake_quantize_per_tensor_affine`` computes, bit for bit, in a tenth of the time on a CPU.
    """
    found: torch.Tensor = _Rounded.apply(x, scale, zero_point)
    return found


def _on_codes(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    inverse = float(1 / torch.tensor(scale))  # in single precision, as torch has it
    return x.mul(inverse).round_().clamp_(-128 - zero_point, 127 - zero_point).mul_(scale)


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """Filters fake-quantised to int8 per channel; every gradient passes, as no weight is clipped.

    What ``torch.fake_quantize_per_channel_affine`` computes, bit for bit, in 0.2 to 0.6 of the time on a CPU.
    """
    found: torch.Tensor = _RoundedWeight.apply(weight)
    return found


class _RoundedWeight(torch.autograd.Function):
    """See :func:`rounded_weight`."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        scales = weight_scales(weight).view(-1, *(1,) * (weight.ndim - 1))
        return weight.mul(1 / scales).round_().mul_(scales)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class _Rounded(torch.autograd.Function):
    """See :func:`rounded`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.ends = (-128 - zero_point - 0.5) * scale, (127 - zero_point + 0.5) * scale
        return _on_codes(x.float(), scale, zero_point).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, *ctx.ends), None, None


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


def _percentile(values: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    ends = torch.quantile(_at_most(values), torch.tensor([1 - _PERCENTILE, _PERCENTILE], device=values.device))
    return max(low, min(0.0, float(ends[0]))), min(high, max(0.0, float(ends[1])))


def _least_error(values: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    """The range, shrunk towards zero, whose codes reproduce the values with the least squared error."""
    values = _at_most(values)
    best, chosen = float("inf"), (low, high)
    for shrink in np.linspace(1.0, 0.3, 36):
        ends = low * shrink, high * shrink
        error = float(_on_codes(values, *affine(*ends)).sub_(values).square_().mean())
        if error < best:
            best, chosen = error, ends
    return chosen


def _at_most(values: torch.Tensor) -> torch.Tensor:
    return values[:: len(values) // (4 * _SAMPLES_PER_TENSOR) + 1]
