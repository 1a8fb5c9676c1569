"""The int8 model: what the quantiser makes, the .tflite writer stores, the reference interpreter and the firmware run.

Tensors are NHWC with batch 1. Real value = ``scale * (q - zero_point)``. Weights are symmetric, one scale
per output channel; accumulators are int32 (the scheme of Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, as TensorFlow Lite specifies it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port, only


@dataclass(frozen=True)
class QTensor:
    """An activation tensor: NHWC ``shape`` (batch 1), real = ``scale * (q - zero_point)``."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    name: str = ""

    @property
    def bytes(self) -> int:
        """Size in bytes (int8)."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class QOp:
    """One operator. ``inputs`` and ``output`` index ``Int8Model.tensors``.

    Attributes:
        weights: int8; CONV ``(out, kh, kw, in / groups)``, DEPTHWISE ``(1, kh, kw, out)``, DENSE ``(out, in)``,
            TRANSPOSE_CONV as CONV; slopes of PRELU ``(1, 1, channels)``, or what broadcasts to the input.
        weight_scales: float32 ``(out,)``; of slopes ``(1,)``.
        bias: int32 ``(out,)`` in units of ``input scale * weight_scales``.
        kernel: window ``(kh, kw)`` of convolutions and pools.
        stride: ``(sh, sw)``.
        dilation: ``(dh, dw)``.
        padding: ``((top, bottom), (left, right))`` zeros that the operator itself adds (SAME or VALID only:
            anything else is a PAD operator before it); for PAD the rows and columns it adds, for TRANSPOSE_CONV those
            that SAME cuts off.
        value: code that PADV2 writes around its input; zero point of the slopes of PRELU.
        name: path of the layer it came from.
        alpha: slope of LEAKY_RELU below zero.
        begin: first row and column that a SLICE reads; it goes on by ``stride``.
        order: of a GATHER, the input channel that each output channel is.
        sampling: of a BILINEAR.
    """

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    weights: np.ndarray | None = None
    weight_scales: np.ndarray | None = None
    bias: np.ndarray | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    activation: Activation = Activation.NONE
    name: str = ""
    alpha: float = 0.0
    value: int = 0
    begin: tuple[int, int] = (0, 0)
    order: tuple[int, ...] = ()
    sampling: Sampling = Sampling.CENTRES


@dataclass(frozen=True)
class Int8Model:
    """A whole network in execution order, with one or several inputs and outputs."""

    tensors: tuple[QTensor, ...]
    ops: tuple[QOp, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def input(self) -> int:
        """Tensor of the only input. Raises InputError if there are several."""
        return only(self.inputs, "inputs").tensor

    @property
    def output(self) -> int:
        """Tensor of the only output. Raises InputError if there are several."""
        return only(self.outputs, "outputs").tensor

    def macs(self) -> int:
        """Multiply-accumulates of convolution, depthwise and dense operators for one inference."""
        return sum(op_macs(self, op) for op in self.ops)


def groups_of(model: Int8Model, op: QOp) -> int:
    """Number of groups of a grouped convolution; 1 for all other operators."""
    if op.kind is not Kind.CONV or op.weights is None or not op.weights.shape[3]:
        return 1
    return max(1, model.tensors[op.inputs[0]].shape[-1] // int(op.weights.shape[3]))


def op_macs(model: Int8Model, op: QOp) -> int:
    """Multiply-accumulates of one operator (0 unless it is a convolution, depthwise or dense operator)."""
    if op.weights is None or op.kind is Kind.PRELU:
        return 0
    shape = model.tensors[op.inputs[0] if op.kind is Kind.TRANSPOSE_CONV else op.output].shape
    positions = 1 if op.kind is Kind.DENSE else int(np.prod(shape[1:3]))
    return positions * int(op.weights.size)
