"""A network that loses and gains channels during training, with optimisers and copies kept in step."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import torch
from torch import fx, nn

from mcu.budget import Resources
from mcu.errors import InputError, require_whole
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation
from mcu.graph.layers import Affine
from mcu.graph.ports import Shapes
from mcu.resource_model import ResourceModel
from mcu.runtime import Runtime
from mcu.tracing.interface import Interface
from mcu.tracing.trace import Traced, Tracer
from pruning.engine import gates, surgery, widening
from pruning.engine.rewriting import Rewriter, repoint

SHUT = 3.0
"""A channel whose mean is so many standard deviations below zero is shut: at most a tenth of its values pass a ReLU."""

ALIKE, SAME = 0.99, 1e-3
"""A channel is constant if the fraction ``ALIKE`` of its values lie within ``SAME`` of their median."""


@dataclass(frozen=True)
class Constraints:
    """What the user prescribes for a network.

    Attributes:
        input_shape: of one sample, without the batch; of several inputs a shape for each.
        frozen: paths of layers that keep all their channels.
        round_to: channels that are kept or removed together, in every group whose size is a multiple of it.
        runtime: the runtime that its resources are for.

    Raises:
        InputError: for what is no tuple of paths, no number of channels or no runtime.
    """

    input_shape: Shapes
    frozen: tuple[str, ...] = ()
    round_to: int = 1
    runtime: Runtime = field(default_factory=Runtime)

    def __post_init__(self) -> None:
        require_whole("round_to", self.round_to, 1)
        some = isinstance(self.frozen, Collection) and not isinstance(self.frozen, str)
        if not some or not all(isinstance(path, str) for path in self.frozen):
            raise InputError(f"frozen = {self.frozen!r}: allowed is a tuple of paths, such as ('stem.0',)")

    def trace(self, network: nn.Module) -> Traced:
        """The network with its graph; its layers are shared, not copied. Errors as of ``trace``."""
        return self._tracer(network)

    @cached_property
    def _tracer(self) -> Tracer:
        return Tracer(self.input_shape, self.frozen, self.round_to)

    def model(self, network: nn.Module) -> ResourceModel:
        """Resources of the network as a function of its widths."""
        return ResourceModel(self.trace(network).graph, self.runtime)


class Follower(Protocol):
    """An object that holds a copy of a network under surgery."""

    module: nn.Module


class PrunableNetwork:
    """A network under surgery.

    Attributes:
        constraints: what the user prescribes.
        module, graph: the network as it is now.
        model: resources as a function of the dense network's widths.
        dense: resources of the network at the start.
        origin: resources of the dense network at the root of its lineage; None if it is that network.
        idle: number of zero channels in each group that exist for speed alone: not part of the result.
        optimizers: their state follows the channels.
        followers: copies, such as averaged weights, that lose and gain the same channels.
        generator: for the initial weights of channels that are added again.
        changes: counter of possible changes of parameter shapes.
    """

    def __init__(self, network: nn.Module, constraints: Constraints, seed: int = 0) -> None:
        self.constraints, self.generator = constraints, torch.Generator().manual_seed(seed)
        self.optimizers: list[torch.optim.Optimizer] = []
        self.followers: WeakSet[Follower] = WeakSet()
        self.changes, self._last = 0, False
        self._begin_with(network)
        self.model = ResourceModel(self.graph, constraints.runtime)
        self.dense = self.model.exact(self.model.dense_widths)
        self.origin: Resources | None = None

    def _begin_with(self, network: nn.Module) -> None:
        traced = self.constraints.trace(network)
        self.module, self.graph = traced.module, traced.graph
        self._widest = self.graph.widths
        self.idle = np.zeros_like(self._widest)

    @property
    def widths(self) -> np.ndarray:
        """Width of every group without its idle channels; int64 ``(groups,)``."""
        return self.graph.widths - self.idle

    @property
    def channels(self) -> np.ndarray:
        """Channels of every group without its idle ones; int64 ``(groups,)``."""
        return self.widths * self.graph.channels // self.graph.widths

    @property
    def resources(self) -> Resources:
        """Resources of the network with its current channels."""
        return self.model.exact(self.widths)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter and running statistic by path, whether gates are attached or not."""
        return surgery.layer_tensors(self.module, self.graph)

    def keep(self, kept: list[np.ndarray]) -> None:
        """Physically remove all but these members of each group."""
        before = self.graph
        self.graph = surgery.shrink(self.module, before, kept, self._rewriter(self.optimizers))
        for copied in self.followers:
            surgery.shrink(copied.module, before, kept, self._rewriter(), follows=True)
        self.changes += 1

    def widen(self, widths: np.ndarray) -> None:
        """Add channels until every group has its width; the network computes the same."""
        self._widen(widths)

    def add_idle(self) -> None:
        """Add idle channels to groups that train faster with them."""
        present = self.graph.widths
        even = widening.even_widths(self.graph, present, self._widest)
        self._widen(even, idle=True)
        self.idle = self.idle + even - present

    def _widen(self, widths: np.ndarray, *, idle: bool = False) -> None:
        before, noise = self.graph, self.generator.get_state()
        write = self._rewriter(self.optimizers)
        self.graph = widening.widen(self.module, before, widths, write, idle=idle, generator=self.generator)
        for copied in self.followers:
            same = torch.Generator().set_state(noise)
            widening.widen(copied.module, before, widths, self._rewriter(), idle=idle, generator=same)
        self.changes += 1

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of the weights: channels last if a convolution's are, or once were.

        Determined by strides: torch reports 1x1 kernels and kernels with one input channel as contiguous in either
        format, but it chooses kernels, and so the last bits of the results, by the strides.
        """
        weights = (p for p in self.module.parameters() if p.dim() == 4)
        self._last = self._last or any(w.stride() != torch.empty(w.shape, device="meta").stride() for w in weights)
        return torch.channels_last if self._last else torch.contiguous_format

    def _rewriter(self, optimizers: Sequence[torch.optim.Optimizer] = ()) -> Rewriter:
        return Rewriter(optimizers, self.memory_format)

    def drop_idle(self) -> None:
        """Remove the idle channels."""
        self.keep([np.arange(width) for width in self.widths])
        self.idle = np.zeros_like(self.idle)

    def replace(self, module: fx.GraphModule) -> None:
        """Continue with a copy of another network, with fewer channels or other layers; resources are recomputed.

        A copy, because a library that traced the network may hold nodes of its autograd graph until the next garbage
        collection. Optimisers get its parameters in place of the old ones.
        """
        before, widest, values = _layers(self.graph), self._widest, self.tensors()
        own = [(copied, surgery.layer_tensors(copied.module, self.graph)) for copied in self.followers]
        write, training = self._rewriter(), self.module.training
        self._begin_with(copy.deepcopy(module))
        self.module.train(training)
        for parameter in self.module.parameters():
            parameter.data = write.laid_out(parameter.data)
        for optimizer in self.optimizers:
            repoint(optimizer, values, dict(self.module.named_parameters()))
        for copied, kept in own:
            copied.module = copy.deepcopy(self.module)
            _fill_fitting(surgery.layer_tensors(copied.module, self.graph), kept)
        self.changes += 1
        if _layers(self.graph) != before:
            self.model = ResourceModel(self.graph, self.constraints.runtime)
        else:
            self._widest = widest

    @torch.no_grad()
    def revive(self, samples: torch.Tensor | None = None) -> None:
        """Open the layers that answer the same to every input, as no gradient gets through them.

        The channel that a narrow group keeps may have lived on channels that are gone. Scale and shift say which layers
        are shut by their ReLU: a normalised value exceeds ``k`` standard deviations at most ``1 / (1 + k**2)`` of the
        time (Cantelli). Others are found by what they answer to ``samples``, in order of execution. The mean of what
        their ReLU reads becomes 0.

        Args:
            samples: normalised, ``(N, C, H, W)``; None where there are none at hand.
        """
        rectified = [op for op in self.graph.ops if op.activation in (Activation.RELU, Activation.RELU6)]
        shifts = {op.node: shift for op in rectified if (shift := self._shift(op)) is not None}
        for op in rectified:
            norm = surgery.layer_of(self.module, op.norm) if op.norm and op.node in shifts else None
            if norm is not None and bool((norm.bias + SHUT * norm.weight.abs() <= 0).all()):
                shifts[op.node].zero_()
        opened, read = None, {op.node: op.anchor for op in rectified if op.node in shifts}
        while samples is not None:
            found = _first_constant(self.module, read, samples)
            if found is None or found.node == opened:  # what is constant though it is open has nothing to tell apart
                return
            shifts[found.node] -= found.means
            opened = found.node

    def _shift(self, op: Op) -> torch.Tensor | None:
        """The shifts, to be learned, of what an operator's activation reads."""
        layer = surgery.layer_of(self.module, path) if (path := op.norm or op.layer) else None
        return None if isinstance(layer, Affine) else getattr(layer, "bias", None)

    def attach_gates(self) -> gates.GateBank:
        """Wrap every layer that writes removable channels, also in the copies."""
        bank = gates.attach(self.module, self.graph)
        for copied in self.followers:
            kept = surgery.layer_tensors(copied.module, self.graph)
            copied.module = copy.deepcopy(self.module)
            surgery.fill(surgery.layer_tensors(copied.module, self.graph), kept)
        return bank

    def detach_gates(self) -> None:
        """Remove the wrappers."""
        gates.detach(self.module)
        for copied in self.followers:
            gates.detach(copied.module)

    @property
    def interface(self) -> Interface:
        """How the user's network is called, and what it returns."""
        found: Interface = self.module.meta["interface"]
        return found

    def layout(self) -> dict[str, list[int]]:
        """Widths and idle channels, as plain JSON values."""
        return {"widths": self.graph.widths.tolist(), "idle": self.idle.tolist()}

    def restore_widths(self) -> None:
        """Restore all channels of a narrowed network; their values are arbitrary."""
        followed, self.optimizers = self.optimizers, []
        self._widen(self._widest, idle=True)
        self.optimizers = followed
        self.idle = np.zeros_like(self.idle)

    def load_layout(self, layout: dict[str, list[int]]) -> None:
        """Narrow a network of the same layers to a layout; fill in the values afterwards.

        Raises:
            InputError: if the layout is of another network.
        """
        wanted = np.array(layout["widths"], dtype=np.int64)
        if wanted.shape != self.graph.widths.shape or (wanted > self.graph.widths).any():
            raise InputError(
                f"widths {layout['widths']} are not of this network, which has {self.graph.widths.tolist()}"
            )
        followed, self.optimizers = self.optimizers, []  # their state is of the layout already, or will be
        self.keep([np.arange(width) for width in layout["widths"]])
        self.optimizers = followed
        self.idle = np.array(layout["idle"], dtype=np.int64)


def _fill_fitting(targets: Mapping[str, torch.Tensor], sources: Mapping[str, torch.Tensor]) -> None:
    fitting = {name: t for name, t in targets.items() if name in sources and sources[name].shape == t.shape}
    surgery.fill(fitting, sources)


def _layers(graph: Graph) -> tuple[list[str], list[tuple[str, int, int]]]:
    """Groups and operators by name, the latter with the size of what they write."""
    written = [(op.name, graph.tensors[op.output]) for op in graph.ops]
    return [group.name for group in graph.groups], [(name, map_.height, map_.width) for name, map_ in written]


@dataclass(frozen=True)
class _Constant:
    """The node of an activation that answers the same to all samples; mean of what it reads, by channel."""

    node: str
    means: torch.Tensor


def _first_constant(module: fx.GraphModule, read: Mapping[str, str], samples: torch.Tensor) -> _Constant | None:
    """The first of these nodes that answers the same to all samples, normalised as in training; None if all tell.

    Args:
        read: names of nodes, and of those before their activation.
    """
    found: list[_Constant] = []
    means: dict[str, torch.Tensor] = {}

    class Watching(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            value = super().run_node(node)
            if node.name in read.values():
                means[node.name] = _by_channel(value).mean(1)
            if node.name in read and not found and _is_constant(value):
                found.append(_Constant(node.name, means[read[node.name]]))
            return value

    copied = copy.deepcopy(module).eval()
    for layer in copied.modules():
        layer.train(isinstance(layer, nn.modules.batchnorm._BatchNorm))
    Watching(copied).run(samples)
    return found[0] if found else None


def _is_constant(value: torch.Tensor) -> bool:
    channels = _by_channel(value)
    alike = (channels - channels.median(1, keepdim=True).values).abs() <= SAME
    return bool((alike.float().mean(1) >= ALIKE).all())


def _by_channel(value: torch.Tensor) -> torch.Tensor:
    return value.transpose(0, 1).flatten(1)
