"""From a calibrated ``FoldedNet`` to the int8 model, and the corrections that keep its accuracy.

Weights are symmetric per channel, activations asymmetric per tensor, biases int32. Options: cross-layer equalisation
and bias correction (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mcu.errors import InputError
from mcu.graph.graph import Op
from mcu.graph.kinds import Kind
from mcu.graph.ports import each
from mcu.int8.fake_quantisation import weight_scales
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model, QOp, QTensor

_BIAS_LIMIT = 1 << 28
_HOMOGENEOUS = frozenset(
    {Kind.MAX_POOL, Kind.AVG_POOL, Kind.PAD, Kind.RELU, Kind.PRELU, Kind.RESIZE, Kind.BILINEAR, Kind.SLICE}
)
"""Operators between two convolutions that a positive factor per channel passes through unchanged."""


def quantise(network: FoldedNet, metadata: Mapping[str, str] | None = None) -> Int8Model:
    """The int8 model of a calibrated network.

    Args:
        network: its float parameters and ranges are used as they are.
        metadata: kept in the model and written into the file.

    Raises:
        InputError: if the network has not been calibrated, or a parameter is not finite.
    """
    if not bool(network.calibrated):
        raise InputError("quantisation: the network has no ranges yet; call calibrate first")
    tensors = tuple(
        QTensor((1, tensor.height, tensor.width, tensor.channels), scale, zero_point, tensor.name)
        for tensor, (scale, zero_point) in zip(network.graph.tensors, network.grids(), strict=True)
    )
    ops = tuple(_operator(network, index, op, tensors) for index, op in enumerate(network.graph.ops))
    return Int8Model(tensors, ops, network.graph.inputs, network.graph.outputs, dict(metadata or {}))


def _operator(network: FoldedNet, index: int, op: Op, tensors: tuple[QTensor, ...]) -> QOp:
    weights, scales, bias = None, None, None
    if str(index) in network.weights:
        source = tensors[op.inputs[0]]
        weights, scales, bias = _quantised_weights(network, index, op, source.scale)
    elif op.kind is Kind.PRELU:
        weights, scales = _quantised_slopes(network, index, op)
    return QOp(
        op.kind, op.inputs, op.output, weights, scales, bias, op.kernel, op.stride, op.dilation, op.padding,
        op.activation, op.name, op.alpha, _code(op.value, tensors[op.output]), op.begin,
        op.order, op.sampling,
    )  # fmt: skip


def _code(value: float, tensor: QTensor) -> int:
    """Of a PADV2's constant."""
    return int(np.clip(np.rint(value / tensor.scale) + tensor.zero_point, -128, 127)) if value else 0


def _quantised_weights(
    network: FoldedNet, index: int, op: Op, input_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int8 weights in the model's layout, float32 scales, int32 biases."""
    weight = network.weights[str(index)].detach().cpu()
    bias = network.biases[str(index)].detach().cpu().double().numpy()
    if not bool(torch.isfinite(weight).all()) or not np.isfinite(bias).all():
        raise InputError(f"network layer '{op.name}': a weight or bias is not a finite number")
    scales = weight_scales(weight).numpy().astype(np.float32)
    least = np.abs(bias) / (input_scale * _BIAS_LIMIT)  # a channel of tiny weights must still hold its bias
    scales = np.maximum(scales, least.astype(np.float32))
    codes = np.rint(weight.double().numpy() / scales[:, None, None, None].astype(np.float64))
    codes = np.clip(codes, -127, 127).astype(np.int8)
    layout = (1, 2, 3, 0) if op.kind is Kind.DEPTHWISE else (0, 2, 3, 1)
    biases = np.rint(bias / (np.float64(input_scale) * scales.astype(np.float64)))
    return np.ascontiguousarray(codes.transpose(layout)), scales, biases.astype(np.int32)


def _quantised_slopes(network: FoldedNet, index: int, op: Op) -> tuple[np.ndarray, np.ndarray]:
    """int8 slopes and their one scale."""
    slopes = network.slopes[str(index)].detach().cpu()
    if not bool(torch.isfinite(slopes).all()):
        raise InputError(f"network layer '{op.name}': a slope is not a finite number")
    scales = weight_scales(slopes[None, :, None, None]).numpy().astype(np.float32)
    codes = np.clip(np.rint(slopes.double().numpy() / float(scales[0])), -127, 127).astype(np.int8)
    return codes[None, None], scales


@torch.no_grad()
def equalise(network: FoldedNet, rounds: int = 4) -> int:
    """Cross-layer equalisation: give each channel the same weight range on both sides of a ReLU; outputs unchanged.

    Call before ``calibrate``.

    Returns:
        How many pairs of convolutions were equalised.
    """
    pairs = _pairs(network)
    for _ in range(rounds):
        for first, second in pairs:
            _equalise_pair(network, first, second)
    return len(pairs)


def _pairs(network: FoldedNet) -> list[tuple[int, int]]:
    """Convolutions joined by a single path that a positive factor per channel passes through."""
    readers: dict[int, list[int]] = {}
    for index, op in enumerate(network.graph.ops):
        for tensor in op.inputs:
            readers.setdefault(tensor, []).append(index)
    returned = {port.tensor for port in network.graph.outputs}
    pairs = []
    for index, op in enumerate(network.graph.ops):
        if str(index) not in network.weights or op.is_limited:
            continue
        tensor = op.output
        while tensor not in returned and len(readers.get(tensor, [])) == 1:
            following = readers[tensor][0]
            reader = network.graph.ops[following]
            if str(following) in network.weights:
                plain = reader.kind in (Kind.CONV, Kind.TRANSPOSE_CONV) and reader.groups == 1
                if plain or (
                    reader.kind is Kind.DEPTHWISE
                    and network.weights[str(following)].shape[0] == len(network.biases[str(index)])
                ):
                    pairs.append((index, following))
                break
            if reader.kind not in _HOMOGENEOUS or reader.is_limited:
                break
            tensor = reader.output
    return pairs


def _equalise_pair(network: FoldedNet, first: int, second: int) -> None:
    outgoing, incoming = network.weights[str(first)], network.weights[str(second)]
    depthwise = network.graph.ops[second].kind is Kind.DEPTHWISE
    before = outgoing.abs().amax((1, 2, 3))
    after = incoming.abs().amax((1, 2, 3) if depthwise else (0, 2, 3))
    usable = (before > 0) & (after > 0)
    factor = torch.where(usable, torch.sqrt(before / after.clamp_min(1e-12)), torch.ones_like(before))
    factor = factor.clamp(1e-2, 1e2)
    outgoing.div_(factor[:, None, None, None])
    network.biases[str(first)].div_(factor)
    incoming.mul_(factor[:, None, None, None] if depthwise else factor[None, :, None, None])


@torch.no_grad()
def correct_biases(network: FoldedNet, x: torch.Tensor | Sequence[torch.Tensor]) -> None:
    """Subtract from each bias the mean quantisation error of its channel, layer by layer in execution order.

    Args:
        network: calibrated; its biases are changed.
        x: calibration inputs; of several inputs a tuple.
    """
    expected = _channel_means(network, x, fake=False)
    for index in expected:
        network.biases[str(index)] += expected[index] - _channel_means(network, x, fake=True, only=index)[index]


def _channel_means(
    network: FoldedNet, x: torch.Tensor | Sequence[torch.Tensor], *, fake: bool, only: int | None = None
) -> dict[int, torch.Tensor]:
    """Mean of every convolution's output before its activation, per channel."""
    means: dict[int, torch.Tensor] = {}

    def keep(index: int, value: torch.Tensor) -> None:
        if str(index) in network.weights and only in (None, index):
            means[index] = value.mean((0, 2, 3))

    kept = network.fake
    network.fake_quantise(fake)
    network.run(*each(x), before=keep)
    network.fake_quantise(kept)
    return means
