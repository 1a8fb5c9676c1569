"""Resources of a network as a function of its group widths: MACs, flash and peak memory.

Every rule is written once, as coefficients of a bilinear form in input and output channels, and evaluated
either on integers (exact) or on real-valued widths, with derivatives in closed form. File size and arena carry
alignment and planning terms that are not smooth: ``ResourceModel.exact`` has them from the writer and the
planner, ``ResourceModel.smooth`` follows the terms that depend on widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcu.budget import Budget, Resources
from mcu.cost.arena import SCRATCH
from mcu.cost.chain import Chain, spans_of
from mcu.cost.firmware_memory import plan_memory
from mcu.cost.stage import Stage, heights_of, overwritten
from mcu.errors import InputError
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Kind
from mcu.int8.lookup import TABLES
from mcu.int8.structure import CONVOLUTIONS, Structure, structure_of_graph
from mcu.runtime import Runtime
from mcu.terms import RuntimeName

BYTES_PER_OUTPUT_CHANNEL = 12
"""int32 bias, float32 scale and an int32 share of alignment and arena bookkeeping."""

BYTES_PER_INDEX = 4
"""int32 number of a channel that is gathered."""

PEAK_SHARPNESS = 30.0
"""Sharpness of the smooth maximum over execution steps: the excess is at most log(steps) / this, relative."""


@dataclass(frozen=True)
class Terms:
    """Cost of one operator: ``pair * in * out + out_only * out`` channels.

    ``macs_*`` count multiply-accumulates, ``bytes_*`` constants in flash.
    """

    macs_pair: float = 0.0
    macs_out: float = 0.0
    bytes_pair: float = 0.0
    bytes_out: float = 0.0


def _conv(op: Op, positions: int) -> Terms:
    taps = op.kernel[0] * op.kernel[1] / op.groups
    return Terms(macs_pair=taps * positions, bytes_pair=taps, bytes_out=BYTES_PER_OUTPUT_CHANNEL)


def _depthwise(op: Op, positions: int) -> Terms:
    taps = op.kernel[0] * op.kernel[1]
    return Terms(macs_out=taps * positions, bytes_out=taps + BYTES_PER_OUTPUT_CHANNEL)


def _prelu(op: Op, positions: int) -> Terms:
    return Terms(bytes_out=1)


def _gather(op: Op, positions: int) -> Terms:
    return Terms(bytes_out=BYTES_PER_INDEX)


def _free(op: Op, positions: int) -> Terms:
    return Terms()


RULES: dict[Kind, Callable[[Op, int], Terms]] = {
    Kind.CONV: _conv,
    Kind.DEPTHWISE: _depthwise,
    Kind.TRANSPOSE_CONV: _conv,
    Kind.PRELU: _prelu,
    Kind.BILINEAR: _free,
    Kind.ADD: _free,
    Kind.CONCAT: _free,
    Kind.MAX_POOL: _free,
    Kind.AVG_POOL: _free,
    Kind.PAD: _free,
    Kind.PADV2: _free,
    Kind.RELU: _free,
    Kind.MUL: _free,
    Kind.RESIZE: _free,
    Kind.SLICE: _free,
    Kind.GATHER: _gather,
    **dict.fromkeys(TABLES, _free),
}
"""One rule per operator; an operator without a rule is an error, never a guess."""


class ResourceModel:
    """Resources of ``graph`` at any widths of its groups, on one runtime."""

    def __init__(self, graph: Graph, runtime: Runtime | None = None) -> None:
        self.graph = graph
        self.runtime = runtime or Runtime()
        self.dense_widths = graph.widths
        channels = graph.channel_matrix()
        terms = [self._terms(op) for op in graph.ops]
        self._inputs = np.array([channels[op.inputs[0]] for op in graph.ops])
        self._outputs = np.array([channels[op.output] for op in graph.ops])
        self._coefficients = np.array([(t.macs_pair, t.macs_out, t.bytes_pair, t.bytes_out) for t in terms]).T
        self._structure = structure_of_graph(graph)
        self._matrix = channels
        self._lives: dict[tuple[Stage, ...], np.ndarray] = {}
        self._held = self.runtime.sram_per_channel * self._outputs[[op.kind in CONVOLUTIONS for op in graph.ops]].sum(0)

    def _terms(self, op: Op) -> Terms:
        rule = RULES.get(op.kind)
        if rule is None:
            raise InputError(f"network layer '{op.name}' ({op.kind}): the resource model has no rule for it")
        spread = op.kind is Kind.TRANSPOSE_CONV  # every value that is read meets all weights
        tensor = self.graph.tensors[op.inputs[0] if spread else op.output]
        return rule(op, tensor.height * tensor.width)

    def _live(self, widths: np.ndarray) -> np.ndarray:
        """Bytes of all tensors alive at each step, affine in widths about ``(..., groups)``; ``(steps, groups + 1)``.

        Of several widths the median says which operators firmware runs strip by strip.
        """
        chain = None
        if self.runtime.name is RuntimeName.FIRMWARE:
            middle = np.median(widths.reshape(-1, widths.shape[-1]), axis=0)
            chain = plan_memory(self._structure_at(np.maximum(middle, 1))).strips
        stages = () if chain is None else chain.stages
        if stages not in self._lives:
            self._lives[stages] = self._live_matrix(chain)
        return self._lives[stages]

    def _live_matrix(self, chain: Chain | None) -> np.ndarray:
        channels, structure = self._matrix, self._structure
        live = np.zeros((len(self.graph.ops), channels.shape[1]))
        outputs = [port.tensor for port in structure.outputs]
        in_place = overwritten(structure).items() if self.runtime.name is RuntimeName.FIRMWARE else ()
        spans = spans_of(structure.ops, heights_of(structure), outputs, chain, in_place)
        for tensor, (rows, first, last), row in zip(self.graph.tensors, spans, channels, strict=True):
            live[max(first - 1, 0) : last] += rows * tensor.width * row
        for step, op in enumerate(self.graph.ops):
            tensor = self.graph.tensors[op.output]
            sums = 4 * SCRATCH.get(op.kind, 0) if self.runtime.name is RuntimeName.TFLM else 0
            live[step] += sums * tensor.height * tensor.width * channels[op.output]
        return live

    def macs(self, widths: np.ndarray) -> np.ndarray:
        """Exact multiply-accumulates; ``widths`` is ``(..., groups)`` of integers, the result int64 ``(...)``."""
        inputs, outputs = self._channels(widths)
        pair, out = self._coefficients[:2]
        return np.rint((pair * inputs * outputs + out * outputs).sum(-1)).astype(np.int64)

    def estimate(self, widths: np.ndarray) -> np.ndarray:
        """The smooth model on numpy arrays: ``(..., groups)`` -> ``(..., 3)`` flash, sram, MACs."""
        return self._estimated(widths, self._live(widths))

    def _estimated(self, widths: np.ndarray, live: np.ndarray) -> np.ndarray:
        inputs, outputs = self._channels(widths)
        macs_pair, macs_out, bytes_pair, bytes_out = self._coefficients
        macs = (macs_pair * inputs * outputs + macs_out * outputs).sum(-1)
        flash = (bytes_pair * inputs * outputs + bytes_out * outputs).sum(-1)
        full = _with_one(widths)
        return np.stack([flash, (full @ live.T).max(-1) + full @ self._held, macs], -1)

    def _channels(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        full = _with_one(widths)
        return full @ self._inputs.T, full @ self._outputs.T

    def smooth(self, widths: np.ndarray) -> np.ndarray:
        """Flash, sram (smooth maximum over steps) and MACs at real-valued widths; ``(groups,)`` -> ``(3,)``."""
        live = self._live(widths)
        resources, steps = self._estimated(widths, live), live @ _with_one(widths)
        resources[1] += steps.max() * float(np.log(_exponentials(steps).sum())) / PEAK_SHARPNESS
        return resources

    def slopes(self, widths: np.ndarray) -> np.ndarray:
        """Derivatives of ``smooth`` by the widths, in closed form; float64 ``(3, groups)``.

        The scale of the smooth maximum counts as constant.
        """
        before, after = self._channels(widths)
        macs_pair, macs_out, bytes_pair, bytes_out = self._coefficients
        inputs, outputs = self._inputs[:, :-1], self._outputs[:, :-1]

        def bilinear(pair: np.ndarray, out: np.ndarray) -> np.ndarray:
            return np.asarray((pair * after) @ inputs + (pair * before + out) @ outputs)

        live = self._live(widths)
        weights = _exponentials(live @ _with_one(widths))
        peak = (weights / weights.sum()) @ live[:, :-1] + self._held[:-1]
        return np.stack([bilinear(bytes_pair, bytes_out), peak, bilinear(macs_pair, macs_out)])

    def exact(self, widths: np.ndarray) -> Resources:
        """Bytes of flash and SRAM on the runtime, and MACs, at integer widths ``(groups,)``."""
        flash, sram = self.runtime.predict(self._structure_at(widths))
        return Resources(flash, sram, int(self.macs(widths)))

    def admits(self, budget: Budget, widths: np.ndarray) -> bool:
        """Whether integer widths ``(groups,)`` satisfy every bound; the arena is planned last."""
        flash, sram = self.runtime.floor(self._structure_at(widths))
        least = Resources(flash, sram, int(self.macs(widths)))
        return budget.admits(least) and budget.admits(self.exact(widths))

    def _structure_at(self, widths: np.ndarray) -> Structure:
        channels = np.rint(_with_one(widths) @ self._matrix.T).astype(np.int64)
        return self._structure.with_channels(channels.tolist())


def _exponentials(steps: np.ndarray) -> np.ndarray:
    """Weight of every execution step in the smooth maximum, relative to that of the largest."""
    return np.asarray(np.exp(PEAK_SHARPNESS * (steps / steps.max() - 1)))


def _with_one(widths: np.ndarray) -> np.ndarray:
    widths = np.asarray(widths, dtype=np.float64)
    return np.concatenate([widths, np.ones((*widths.shape[:-1], 1))], -1)
