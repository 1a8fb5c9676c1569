"""Ranges of activations from representative inputs (Krishnamoorthi, "Quantizing deep convolutional networks", 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch

from mcu.graph.kinds import Kind
from mcu.graph.ports import each
from mcu.int8.fake_quantisation import LEAST_RANGE, affine, on_codes, weight_scales
from mcu.int8.folded_net import Batch, FoldedNet
from mcu.int8.lookup import FIXED_RANGES
from mcu.int8.structure import SAME_QUANTISATION

_LARGEST_MULTIPLIER = 8.0
"""Output codes per unit of a convolution's sum. Only an output that a ReLU shuts for all calibration data comes near;
beyond, one that opens for another input overflows the 32 bits in which TFLM shifts sums."""

_SAMPLES_PER_TENSOR = 1 << 16
_PERCENTILE = 0.9999
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


class Calibration(StrEnum):
    """How the range of an activation is chosen from calibration values."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    OUTPUT = "output"  # MSE or MINMAX


@dataclass
class _Seen:
    """What calibration inputs gave: by quantisation class the ends and some of the values; the outputs of each part."""

    ends: dict[int, tuple[float, float]] = field(default_factory=dict)
    values: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    outputs: list[Batch] = field(default_factory=list)


@torch.no_grad()
def calibrate(
    net: FoldedNet, x: torch.Tensor | Sequence[torch.Tensor], method: Calibration = Calibration.OUTPUT, batch: int = 256
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
    fake, net.fake = net.fake, False
    parts = list(zip(*(given.split(batch) for given in each(x)), strict=True))
    seen = _observed(net, parts)
    net.calibrated.fill_(True)
    if method is Calibration.OUTPUT:
        method = _closest(net, parts, seen)
    _choose(net, seen, method)
    net.fake = fake


def _observed(net: FoldedNet, parts: Sequence[Batch]) -> _Seen:
    """Outputs, and ends and values of every quantisation class."""
    seen = _Seen()
    produced = {op.output: op for op in net.graph.ops}

    def observe(tensor: int, value: torch.Tensor) -> None:
        root = net.roots[tensor]
        op = produced.get(tensor)
        if op is not None and op.kind in SAME_QUANTISATION and not (op.value and math.isfinite(op.value)):
            return
        low, high = seen.ends.get(root, (0.0, 0.0))
        lowest, highest = torch.aminmax(value)
        seen.ends[root] = min(low, float(lowest)), max(high, float(highest))
        flat = value.flatten()
        seen.values.setdefault(root, []).append(flat[:: max(1, len(flat) * len(parts) // _SAMPLES_PER_TENSOR)])

    for part in parts:
        seen.outputs.append(net.run(*part, observer=observe))
    return seen


def _closest(net: FoldedNet, parts: Sequence[Batch], seen: _Seen) -> Calibration:
    """MSE or MINMAX: the one with which fake-quantised outputs are closer to those in floating point.

    Of several outputs each counts by the error as a part of its values.
    """
    wanted = [torch.cat(column) for column in zip(*seen.outputs, strict=True)]
    errors = {}
    for method in (Calibration.MSE, Calibration.MINMAX):
        _choose(net, seen, method)
        net.fake = True
        found = [torch.cat(column) for column in zip(*(net.run(*part) for part in parts), strict=True)]
        net.fake = False
        errors[method] = sum(
            float((ours - theirs).square().sum() / theirs.square().sum().clamp_min(1e-30))
            for ours, theirs in zip(found, wanted, strict=True)
        )
    return min(errors, key=lambda method: errors[method])


def _choose(net: FoldedNet, seen: _Seen, method: Calibration) -> None:
    returned = {net.roots[port.tensor] for port in net.graph.outputs}
    for root, (low, high) in seen.ends.items():
        if root in returned:
            pass
        elif method is Calibration.PERCENTILE:
            low, high = _percentile(torch.cat(seen.values[root]), low, high)
        elif method is Calibration.MSE:
            low, high = _least_error(torch.cat(seen.values[root]), low, high)
        net.ranges[root, 0], net.ranges[root, 1] = 0.0 if root in net.rectified else low, high
    for op in net.graph.ops:
        if op.kind in FIXED_RANGES:
            net.ranges[net.roots[op.output]] = torch.tensor(FIXED_RANGES[op.kind]).to(net.ranges)
    _widen_sums(net)
    net.ranges_changed()


def _widen_sums(net: FoldedNet) -> None:
    """Keep the range of an output from being next to nothing beside those of its inputs."""
    for index, op in enumerate(net.graph.ops):
        output = net.roots[op.output]
        widths = (net.ranges[:, 1] - net.ranges[:, 0]).clamp_min(LEAST_RANGE)
        inputs = widths[[net.roots[tensor] for tensor in op.inputs]]
        if op.kind in _FINEST:
            least = _FINEST[op.kind] * (inputs.prod() if op.kind is Kind.MUL else inputs.max())
        elif str(index) in net.weights:
            least = inputs.max() * weight_scales(net.weights[str(index)]).max() / _LARGEST_MULTIPLIER
        else:
            continue
        net.ranges[output, 1] += (least - widths[output]).clamp_min(0.0)


def _percentile(values: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    ends = torch.quantile(_at_most(values), torch.tensor([1 - _PERCENTILE, _PERCENTILE], device=values.device))
    return max(low, min(0.0, float(ends[0]))), min(high, max(0.0, float(ends[1])))


def _least_error(values: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    """The range, shrunk towards zero, whose codes reproduce the values with the least squared error."""
    values = _at_most(values)
    best, chosen = float("inf"), (low, high)
    for shrink in np.linspace(1.0, 0.3, 36):
        ends = low * shrink, high * shrink
        error = float(on_codes(values, *affine(*ends)).sub_(values).square_().mean())
        if error < best:
            best, chosen = error, ends
    return chosen


def _at_most(values: torch.Tensor) -> torch.Tensor:
    return values[:: len(values) // (4 * _SAMPLES_PER_TENSOR) + 1]
