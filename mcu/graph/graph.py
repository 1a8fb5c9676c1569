"""The network as the resource model sees it: operators on tensors, and groups of channels that share one width.

Batch normalisation, bias and the activation that follow a convolution belong to it, as they do in the
exported int8 model, so one ``Op`` here becomes one TensorFlow Lite operator. Batch size is 1 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port

FIXED = -1
"""Group of a channel that cannot be removed: of network inputs and outputs, of layers the user froze."""


@dataclass(frozen=True)
class Tensor:
    """An activation of ``channels`` maps of ``height`` x ``width``.

    Attributes:
        groups: for each channel the group it belongs to, or ``FIXED``; int array ``(channels,)``.
        members: for each channel its index within that group; int array ``(channels,)``.
    """

    name: str
    height: int
    width: int
    groups: np.ndarray
    members: np.ndarray

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.groups)

    @property
    def elements(self) -> int:
        """Number of values, which is the size in bytes at int8."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class Op:
    """One operator of the exported model; ``inputs`` and ``output`` index ``Graph.tensors``.

    Attributes:
        padding: ``((top, bottom), (left, right))`` zeros around the input; of TRANSPOSE_CONV what SAME cuts off.
        layer: path of the convolution or dense module whose weights it uses, or of the PReLU whose slopes, if any.
        norm: path of the batch normalisation folded into it, if any.
        anchor: name of the fx node that yields its value before the activation.
        node: name of the fx node that yields its final value.
        bounds: minimum and maximum that values are clamped to; in int8 the output range ends there.
        alpha: slope of LEAKY_RELU below zero.
        value: constant that PADV2 pads with; minus infinity is the least code.
        groups: number of groups of a grouped CONV.
        begin: first row and column that a SLICE reads; it goes on by ``stride``.
        order: of a GATHER, the input channel that each output channel is.
        sampling: of a BILINEAR.
    """

    kind: Kind
    name: str
    inputs: tuple[int, ...]
    output: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    activation: Activation = Activation.NONE
    bounds: tuple[float, float] | None = None
    layer: str | None = None
    norm: str | None = None
    anchor: str = ""
    node: str = ""
    alpha: float = 0.0
    value: float = 0.0
    groups: int = 1
    begin: tuple[int, int] = (0, 0)
    order: tuple[int, ...] = ()
    sampling: Sampling = Sampling.CENTRES

    @property
    def is_limited(self) -> bool:
        """Whether the activation has an upper bound."""
        return self.activation is Activation.RELU6 or self.bounds is not None


@dataclass(frozen=True)
class Group:
    """Channels that are kept or removed together: the i-th channel of every producer is one removable unit.

    Attributes:
        size: removable units.
        producers: names of the convolution-like operators that write these channels.
        channels: channels that the first producer writes for one unit.
        part: how many groups before it have the same producers, whose channels parts of a network share out.
    """

    name: str
    size: int
    producers: tuple[str, ...]
    channels: int = 1
    part: int = 0


@dataclass(frozen=True)
class Graph:
    """Operators in execution order; ``inputs`` and ``outputs`` in the order of the network's own."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    groups: tuple[Group, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def widths(self) -> np.ndarray:
        """Current width of every group; int64 ``(groups,)``."""
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @property
    def channels(self) -> np.ndarray:
        """Current channels of every group, as its producers write them; int64 ``(groups,)``."""
        return self.widths * np.array([group.channels for group in self.groups], dtype=np.int64)

    def by_group(self, channels: np.ndarray) -> dict[str, int]:
        """Channels of every group ``(groups,)`` by its name."""
        return dict(zip((group.name for group in self.groups), channels.tolist(), strict=True))

    def last_uses(self) -> list[tuple[int, int]]:
        """For each tensor the operator that writes it (-1: an input) and the last that reads it."""
        spans = [[-1, -1] for _ in self.tensors]
        for step, op in enumerate(self.ops):
            spans[op.output][0] = step
            for tensor in (*op.inputs, op.output):
                spans[tensor][1] = step
        for port in self.outputs:
            spans[port.tensor][1] = len(self.ops)
        return [(first, last) for first, last in spans]

    def channel_matrix(self) -> np.ndarray:
        """Channels as an affine function of the widths.

        Returns:
            float64 ``(tensors, groups + 1)``: channels of tensor t at widths w are ``M[t, :-1] @ w + M[t, -1]``.
        """
        matrix = np.zeros((len(self.tensors), len(self.groups) + 1))
        for row, tensor in zip(matrix, self.tensors, strict=True):
            row[-1] = np.count_nonzero(tensor.groups == FIXED)
            for index, group in enumerate(self.groups):
                row[index] = np.count_nonzero(tensor.groups == index) / group.size
        return matrix


def bundle(graph: Graph, count: int) -> Graph:
    """Make ``count`` neighbouring channels one removable unit in every group that divides into such units.

    Kernels that process several channels at once gain nothing from a number of channels in between.
    """
    if count == 1 or not graph.groups:
        return graph
    sizes = {index: group.size // count for index, group in enumerate(graph.groups) if group.size % count == 0}
    bundled = np.isin(np.arange(len(graph.groups)), list(sizes))
    tensors = []
    for tensor in graph.tensors:
        inside = (tensor.groups != FIXED) & bundled[tensor.groups]
        tensors.append(replace(tensor, members=np.where(inside, tensor.members // count, tensor.members)))
    groups = tuple(
        replace(group, size=sizes[index], channels=group.channels * count) if index in sizes else group
        for index, group in enumerate(graph.groups)
    )
    return replace(graph, tensors=tuple(tensors), groups=groups)
