"""An int8 model without weights and scales: operators and tensor shapes, enough to know its file size and its arena.

The pruning job resizes one ``Structure`` thousands of times (``with_channels``) and asks ``predict_flash`` and
``predict_arena`` what the model would cost; ``structure_of`` gives the same view of a finished ``Int8Model``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mcu.graph.graph import Graph
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port
from mcu.int8.model import Int8Model, QOp, groups_of

CONVOLUTIONS = frozenset({Kind.CONV, Kind.DEPTHWISE, Kind.DENSE, Kind.TRANSPOSE_CONV})
SAME_QUANTISATION = frozenset(
    {
        Kind.MAX_POOL,
        Kind.AVG_POOL,
        Kind.PAD,
        Kind.PADV2,
        Kind.CONCAT,
        Kind.RESHAPE,
        Kind.RESIZE,
        Kind.BILINEAR,
        Kind.SLICE,
        Kind.GATHER,
    }
)
"""Kinds whose kernels copy or average codes, so that output and inputs must share scale and zero point."""

_NOT_NEGATIVE = frozenset({Kind.RELU, Kind.SOFTMAX, Kind.LOGISTIC})

Pair = tuple[int, int]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpForm:
    """One operator without weights; fields as in ``QOp``.

    ``source`` is the operator of the graph it came from, which ``value`` is known of.
    """

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    activation: Activation = Activation.NONE
    bias: bool = True
    source: int = -1
    alpha: float = 0.0
    groups: int = 1
    value: float = 0.0
    begin: Pair = (0, 0)
    sampling: Sampling = Sampling.CENTRES

    @property
    def padded(self) -> bool:
        """Whether any zeros are added around the input."""
        return any(any(side) for side in self.padding)


@dataclass(frozen=True)
class Structure:
    """Operators in execution order on tensors of known shape (NHWC, batch 1).

    Attributes:
        shapes: shape of every activation tensor.
        channel_sources: for each tensor the tensor of the graph whose channel count it has.
    """

    shapes: tuple[Shape, ...]
    ops: tuple[OpForm, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    channel_sources: tuple[int, ...] = ()

    def with_channels(self, channels: Sequence[int]) -> Structure:
        """The same operators with ``channels[s]`` channels in every tensor that has channel source ``s``."""
        shapes = tuple(
            (*shape[:-1], int(channels[source]))
            for shape, source in zip(self.shapes, self.channel_sources, strict=True)
        )
        resized = Structure(shapes, self.ops, self.inputs, self.outputs, self.channel_sources)
        resized.__dict__["quantisation_classes"] = self.quantisation_classes  # does not depend on widths
        return resized

    @property
    def is_named(self) -> bool:
        """Whether the file names its inputs and outputs: where there are several, and all have names."""
        several = len(self.inputs) > 1 or len(self.outputs) > 1
        return several and all(port.name for port in (*self.inputs, *self.outputs))

    @cached_property
    def quantisation_classes(self) -> tuple[tuple[int, ...], frozenset[int]]:
        """Which tensors share one scale and zero point.

        Returns:
            for each tensor the lowest tensor of its class, and the classes whose zero point is -128 because
            every value in them comes from a ReLU or a softmax.
        """
        parent = list(range(len(self.shapes)))

        def find(tensor: int) -> int:
            while parent[tensor] != tensor:
                parent[tensor] = parent[parent[tensor]]
                tensor = parent[tensor]
            return tensor

        for op in self.ops:
            if op.kind in SAME_QUANTISATION:
                for tensor in op.inputs:
                    low, high = sorted((find(tensor), find(op.output)))
                    parent[high] = low
        signed = {find(port.tensor) for port in self.inputs}
        for op in self.ops:
            rectified = op.activation is not Activation.NONE or op.kind in _NOT_NEGATIVE
            below = op.kind is Kind.PADV2 and -math.inf < op.value < 0
            if below or (op.kind not in SAME_QUANTISATION and not rectified):
                signed.add(find(op.output))
        roots = tuple(find(tensor) for tensor in range(len(self.shapes)))
        return roots, frozenset(set(roots) - signed)

    def weight_shape(self, op: OpForm) -> Shape:
        """Shape of a convolution-like operator's weights, as in ``QOp.weights``."""
        inner = self.shapes[op.inputs[0]]
        outer = self.shapes[op.output][-1]
        if op.kind is Kind.DENSE:
            total = 1
            for size in inner:
                total *= size
            return (outer, total)
        if op.kind is Kind.DEPTHWISE:
            return (1, *op.kernel, outer)
        if op.kind is Kind.PRELU:
            return (1, 1, outer)
        return (outer, *op.kernel, inner[-1] // op.groups)

    def constants(self, op: OpForm) -> list[tuple[Shape, tuple[int, ...]]]:
        """Structural int32 constants an operator reads besides weights: (shape, values) each, shared when equal."""
        if op.kind in (Kind.PAD, Kind.PADV2):
            (top, bottom), (left, right) = op.padding
            return [((4, 2), (0, 0, top, bottom, left, right, 0, 0))]
        if op.kind is Kind.MEAN:
            return [((2,), (1, 2))]
        if op.kind is Kind.TRANSPOSE_CONV:
            return [((4,), self.shapes[op.output])]
        if op.kind in (Kind.RESIZE, Kind.BILINEAR):
            return [((2,), self.shapes[op.output][1:3])]
        if op.kind is Kind.SLICE:
            _, height, width, channels = self.shapes[op.output]
            (top, left), (down, right) = op.begin, op.stride
            end = (1, top + (height - 1) * down + 1, left + (width - 1) * right + 1, channels)
            return [((4,), (0, top, left, 0)), ((4,), end), ((4,), (1, down, right, 1))]
        if op.kind is Kind.RESHAPE:
            shape = self.shapes[op.output]
            return [((len(shape),), shape)]
        return []

    def macs(self) -> int:
        """Multiply-accumulates of convolution, depthwise and dense operators for one inference."""
        total = 0
        for op in self.ops:
            if op.kind in CONVOLUTIONS:
                count = 1
                for size in self.weight_shape(op):
                    count *= size
                shape = self.shapes[op.inputs[0] if op.kind is Kind.TRANSPOSE_CONV else op.output]
                total += count if op.kind is Kind.DENSE else count * shape[1] * shape[2]
        return total


def form_of(op: QOp, source: int = -1, groups: int = 1) -> OpForm:
    """An operator without its weights."""
    return OpForm(
        op.kind, op.inputs, op.output, op.kernel, op.stride, op.dilation, op.padding, op.activation,
        op.bias is not None, source, op.alpha, groups, begin=op.begin, sampling=op.sampling,
    )  # fmt: skip


def structure_of(model: Int8Model) -> Structure:
    """The structure of a finished model; every tensor is its own channel source."""
    return Structure(
        tuple(tensor.shape for tensor in model.tensors),
        tuple(form_of(op, index, groups_of(model, op)) for index, op in enumerate(model.ops)),
        model.inputs,
        model.outputs,
        tuple(range(len(model.tensors))),
    )


def structure_of_graph(graph: Graph) -> Structure:
    """The structure of the int8 model a graph is quantised to: one operator and one tensor for each of its own.

    ``structure.with_channels(channels)`` then takes one channel count per tensor of the graph, for instance
    ``graph.channel_matrix() @ [*widths, 1]``.
    """
    return Structure(
        tuple((1, tensor.height, tensor.width, tensor.channels) for tensor in graph.tensors),
        tuple(
            OpForm(
                op.kind, op.inputs, op.output, op.kernel, op.stride, op.dilation, op.padding, op.activation,
                source=index, alpha=op.alpha, groups=op.groups, value=op.value, begin=op.begin,
                sampling=op.sampling,
            )
            for index, op in enumerate(graph.ops)
        ),
        graph.inputs,
        graph.outputs,
        tuple(range(len(graph.tensors))),
    )  # fmt: skip
