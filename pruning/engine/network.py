"""A network that loses and gains channels while it trains, and everything that has to follow it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import fx, nn

from mcu.budget import Resources
from mcu.graph.graph import Graph
from mcu.graph.trace import Traced, trace
from mcu.resource_model import ResourceModel
from mcu.runtime import Runtime
from pruning.engine import surgery, widening


@dataclass(frozen=True)
class Structure:
    """What a user fixes about a network.

    Attributes:
        input_shape: of one sample, without the batch.
        frozen: paths of layers that keep all their channels.
        round_to: channels that stay or go together, in every group that divides into such units.
        runtime: what its resources are counted for.
    """

    input_shape: tuple[int, ...]
    frozen: tuple[str, ...] = ()
    round_to: int = 1
    runtime: Runtime = field(default_factory=Runtime)

    def trace(self, network: nn.Module) -> Traced:
        """The network with its graph; its layers are shared, not copied. Errors as of ``trace``."""
        return trace(network, self.input_shape, self.frozen, self.round_to)

    def model(self, network: nn.Module) -> ResourceModel:
        """Resources of the network as a function of its widths."""
        return ResourceModel(self.trace(network).graph, self.runtime)


class PrunableNetwork:
    """A network under surgery.

    Attributes:
        structure: what is fixed about it.
        module, graph: the network as it is now.
        model: resources as a function of the dense network's widths.
        dense: what the network used that it began as.
        origin: what the dense network uses that its lineage began with; None if it is that network.
        idle: how many of each group's channels are zero and there for speed alone: no part of the result.
        optimizers: their state follows the channels.
    """

    def __init__(self, network: nn.Module, structure: Structure, origin: Resources | None = None) -> None:
        self.structure = structure
        self.optimizers: list[torch.optim.Optimizer] = []
        self._begin_with(network)
        self.model = ResourceModel(self.graph, structure.runtime)
        self.dense = self.model.exact(self.model.dense_widths)
        self.origin = origin

    def _begin_with(self, network: nn.Module) -> None:
        traced = self.structure.trace(network)
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
        """What the network uses with the channels it has now."""
        return self.model.exact(self.widths)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter and running statistic by path, whether gates are attached or not."""
        return surgery.layer_tensors(self.module, self.graph)

    def keep(self, kept: list[np.ndarray]) -> None:
        """Remove all but these members of each group, for real."""
        self.graph = surgery.shrink(self.module, self.graph, kept, self.optimizers)

    def widen(self, widths: np.ndarray) -> None:
        """Add channels until every group has its width; the network computes the same."""
        self.graph = widening.widen(self.module, self.graph, widths, self.optimizers)

    def add_idle(self) -> None:
        """Idle channels for groups that train faster with them."""
        present = self.graph.widths
        even = widening.even_widths(self.graph, present, self._widest)
        self.graph = widening.widen(self.module, self.graph, even, self.optimizers, idle=True)
        self.idle = self.idle + even - present

    def drop_idle(self) -> None:
        """Leave the channels that count."""
        self.keep([np.arange(width) for width in self.widths])
        self.idle = np.zeros_like(self.idle)

    def replace(self, module: fx.GraphModule) -> None:
        """Go on with a copy of another network: with fewer channels, or other layers (its resources are new then, too).

        A copy, as a library that has traced the network may hold nodes of its autograd graph until the next garbage
        collection. Optimisers keep the parameters they have: they need new ones.
        """
        before, widest = _layers(self.graph), self._widest
        self._begin_with(copy.deepcopy(module))
        if _layers(self.graph) != before:
            self.model = ResourceModel(self.graph, self.structure.runtime)
        else:
            self._widest = widest

    def layout(self) -> dict[str, list[int]]:
        """Widths and idle channels, as plain values."""
        return {"widths": self.graph.widths.tolist(), "idle": self.idle.tolist()}

    def load_layout(self, layout: dict[str, list[int]]) -> None:
        """Narrow a network of the same layers to a layout; values are to be filled in after it."""
        self.keep([np.arange(width) for width in layout["widths"]])
        self.idle = np.array(layout["idle"], dtype=np.int64)


def _layers(graph: Graph) -> list[tuple[str, ...]]:
    return [tuple(group.name for group in graph.groups), tuple(op.name for op in graph.ops)]
