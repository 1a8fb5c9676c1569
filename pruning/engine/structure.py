"""Changes of a network's structure beside its widths: a lower resolution from one convolution on, removed branches.

Height and width of its maps set the memory and the multiply-accumulates of a layer as its channels do. The resolution
multiplier of MobileNets (Howard et al., arXiv 1704.04861) scales the input; here the first convolution that can
strides by two, so that the input, and what precedes the network, stay as they are. Whether a network of half the
resolution and more channels is better at a budget is decided by trial, as for branches (``pruning.engine.depth``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, cast

import torch
from torch import fx

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.graph import layers
from mcu.graph.graph import Graph, Op
from mcu.graph.places import is_within
from mcu.graph.windows import Pair, own_padding, same_padding
from mcu.resource_model import ResourceModel
from mcu.terms import HALVED
from mcu.tracing.capture import evaluating
from mcu.tracing.trace import Traced
from pruning.engine import depth
from pruning.engine.landing import FULL, require_reachable, smallest
from pruning.engine.network import Constraints

QUARTER, MIDDLE = 4, 2
"""Half of the height and of the width leave a quarter of a map, and of the operations on it. From the geometric middle
on, a network is nearer to a bound with one more halving than without."""

TRIED = 3

Windows = tuple[tuple[int, int, int], ...]
Edit = tuple[str, str]
"""Path of a convolution and ``HALVED``, or the fx nodes of a sum and of the addend that goes, by name."""


def edited(module: fx.GraphModule, edits: Iterable[Sequence[str]]) -> fx.GraphModule:
    """A copy of a canonical network with these changes; those at layers that are gone are skipped.

    Raises:
        InputError: if maps do not fit one another at half the resolution.
    """
    pairs = [(place, change) for place, change in edits]
    network = depth.without(module, [pair for pair in pairs if pair[1] != HALVED])
    for path in halved(pairs):
        if any(node.target == path for node in network.graph.nodes):
            _halve(network, path)
    return network


def halved(edits: Iterable[Sequence[str]]) -> list[str]:
    """Paths of the convolutions at which the resolution was halved."""
    return [place for place, change in edits if change == HALVED]


def is_far(dense: Resources, budget: Budget, halvings: int) -> bool:
    """Whether memory or multiply-accumulates must shrink so far that one more halving is worth a trial.

    Args:
        dense: resources of the user's network.
        budget: what has to be met.
        halvings: those the network has had.
    """
    bounds = budget.bounds()
    far = MIDDLE * QUARTER**halvings
    return any(getattr(dense, name) >= far * bounds[name] for name in ("sram", "macs") if name in bounds)


def halving(module: fx.GraphModule, constraints: Constraints) -> Edit | None:
    """The first convolution, in order of execution, that can stride by two while everything behind it still works.

    Its output must be as large as its input, and the outputs of the network keep their shapes. No kernel may be left
    with a map of one pixel along an axis on which it reaches further: most of its weights would meet padding alone. The
    first ``TRIED`` are looked at: behind them there is little left to save.

    Returns:
        None if there is no such layer.
    """
    traced = constraints.trace(module)
    paths = [str(op.layer) for op in traced.graph.ops if _keeps_size(traced, op)]
    for path in islice((path for path in paths if not is_within(path, constraints.frozen)), TRIED):
        edit = (path, HALVED)
        try:
            graph = constraints.trace(edited(traced.module, [edit])).graph
        except InputError:
            continue  # maps of two sizes meet, or a window is larger than what is left
        if _shapes(graph) == _shapes(traced.graph) and _idle(graph) <= _idle(traced.graph):
            return edit
    return None


@dataclass(frozen=True)
class Reach:
    """The least a network can use: one channel in every group, and no branch that can be removed.

    Attributes:
        traced: the network.
        constraints: of its job.
        halves: whether the job may halve the resolution.
        shortens: whether it may remove branches.
    """

    traced: Traced
    constraints: Constraints
    halves: bool
    shortens: bool = True

    @cached_property
    def whole(self) -> Resources:
        """The least at the network's own resolution."""
        return self._least(self.traced.module)

    @cached_property
    def dense(self) -> Resources:
        """What the network uses as it is."""
        model = ResourceModel(self.traced.graph, self.constraints.runtime)
        return model.exact(model.dense_widths)

    @cached_property
    def narrowest(self) -> Resources:
        """The least with all branches, at the network's own resolution."""
        return smallest(ResourceModel(self.traced.graph, self.constraints.runtime))

    @cached_property
    def halved(self) -> Resources | None:
        """The least at half the resolution; None if the network cannot be halved, or must not."""
        edit = halving(self.traced.module, self.constraints) if self.halves else None
        return self._least(edited(self.traced.module, [edit])) if edit else None

    def _least(self, module: fx.GraphModule) -> Resources:
        constraints = self.constraints
        graph = depth.shallowest(module, constraints) if self.shortens else constraints.trace(module).graph
        return smallest(ResourceModel(graph, constraints.runtime))

    def require(self, budget: Budget, network: str = "network") -> None:
        """Refuse a budget that one job cannot meet.

        Raises:
            UnreachableBudgetError: with the least that can be reached.
        """
        if budget.admits(self.whole):
            return
        may_halve = is_far(self.dense, budget, 0)
        require_reachable((may_halve and self.halved) or self.whole, budget, network)


def halved_unless_worse(
    module: fx.GraphModule, constraints: Constraints, budget: Budget, contest: depth.Contest
) -> list[Edit]:
    """The halving as a list, or none.

    It is taken if the network with it, pruned to the budget, is not clearly worse in a trial: it is the one that trains
    faster, and budgets that inherit from it are near. Where it would leave room in every bound it is not tried: more
    channels at full resolution can use that room. Where no widths meet the budget at full resolution it is taken.
    """
    edit = halving(module, constraints)
    if edit is None:
        return []
    if not budget.admits(Reach(constraints.trace(module), constraints, halves=False).whole):
        return [edit]
    halved = contest(edited(module, [edit]))
    if halved is None or halved.most < FULL:
        return []
    whole = contest(module)
    return [edit] if whole is None or halved.loss <= whole.loss / depth.CLEAR else []


def _keeps_size(traced: Traced, op: Op) -> bool:
    """Whether it is a convolution, used once, whose own padding keeps the size of its maps."""
    layer: Any = traced.module.get_submodule(op.layer) if op.layer else None
    if not isinstance(layer, layers.Convolution) or op.stride != (1, 1) or max(op.kernel) == 1:
        return False
    before, after = traced.graph.tensors[op.inputs[0]], traced.graph.tensors[op.output]
    keeps = (before.height, before.width) == (after.height, after.width)
    once = sum(other.layer == op.layer for other in traced.graph.ops) == 1
    return keeps and once and op.padding == own_padding(layer.padding, op.kernel, op.dilation)


def _idle(graph: Graph) -> set[str]:
    """Paths of the convolutions of whose kernels only the middle meets the map, as that has one pixel."""
    found = set()
    for op in graph.ops:
        read = graph.tensors[op.inputs[0]]
        reaches = (kernel > size == 1 for kernel, size in zip(op.kernel, (read.height, read.width), strict=True))
        if op.layer and any(reaches):
            found.add(op.layer)
    return found


def _shapes(graph: Graph) -> list[tuple[int, int]]:
    return [(graph.tensors[port.tensor].height, graph.tensors[port.tensor].width) for port in graph.outputs]


def _halve(network: fx.GraphModule, path: str) -> None:
    """Stride 2 along every axis on which the kernel reaches; padding that was TensorFlow's SAME is SAME again."""
    layer: Any = network.get_submodule(path)
    node = next(node for node in network.graph.nodes if node.op == "call_module" and node.target == path)
    (read,) = node.all_input_nodes
    sizes = read.meta["shape"][2:]
    stride = tuple(2 if kernel > 1 and size > 1 else 1 for kernel, size in zip(layer.kernel_size, sizes, strict=True))
    layer.stride = stride
    _pad_before(node, layer, _same(sizes, _windows(layer)))
    with evaluating(network):
        try:
            _Refitting(network).run(*_zeros(network))
        except RuntimeError as error:
            raise InputError(f"{path} with stride 2: {error}") from error
    network.recompile()


def _zeros(network: fx.GraphModule) -> list[torch.Tensor]:
    parameter = next(network.parameters())
    inputs = [node for node in network.graph.nodes if node.op == "placeholder"]
    return [torch.zeros(node.meta["shape"], device=parameter.device, dtype=parameter.dtype) for node in inputs]


class _Refitting(fx.Interpreter):
    """Passes zeros through a network and corrects padding that was SAME for the sizes maps had before."""

    def run_node(self, node: fx.Node) -> Any:
        """The node's value, with the padding for the size of its input."""
        layer = self._convolution(node)
        if layer is not None and max(layer.stride) > 1 and "shape" in node.all_input_nodes[0].meta:
            (read,) = node.all_input_nodes
            before, now = self._padding(read, _windows(layer))
            if own_padding(layer.padding, layer.kernel_size, layer.dilation) == before != now:
                padded = _pad_before(node, layer, now)
                self.env[padded] = layers.pad(self.env[read], now)
        elif node.op == "call_function" and node.target in (layers.pad, layers.max_pool, layers.average_pool):
            (read,) = node.all_input_nodes
            for windows in self._padded_for(node):
                before, now = self._padding(read, windows)
                if node.args[-1] == before:
                    node.args = (*node.args[:-1], now)
        return super().run_node(node)

    def _padding(self, read: fx.Node, windows: Windows) -> tuple[tuple[Pair, Pair], tuple[Pair, Pair]]:
        """SAME for the size a map had, and for the size it has now."""
        return _same(read.meta["shape"][2:], windows), _same(self.env[read].shape[2:], windows)

    def _padded_for(self, node: fx.Node) -> list[Windows]:
        """Windows of a pool, or of the convolution that alone reads what is padded; else nothing."""
        if node.target is not layers.pad:
            kernel, stride = cast(tuple[Pair, Pair], node.args[1:3])
            return [tuple(zip(kernel, stride, (1, 1), strict=True))]
        (user, *others) = node.users
        layer = self._convolution(user)
        return [] if others or layer is None else [_windows(layer)]

    def _convolution(self, node: fx.Node) -> Any:
        layer = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        return layer if isinstance(layer, layers.Convolution) else None


def _pad_before(node: fx.Node, layer: Any, padding: tuple[Pair, Pair]) -> fx.Node:
    """Let a node before a convolution pad in place of the convolution itself."""
    (read,) = node.all_input_nodes
    with node.graph.inserting_before(node):
        padded = node.graph.call_function(layers.pad, (read, padding))
    node.replace_input_with(read, padded)
    layer.padding = (0, 0)
    return padded


def _windows(layer: Any) -> Windows:
    """Kernel, stride and dilation along both axes."""
    return tuple(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True))


def _same(sizes: Sequence[int], windows: Windows) -> tuple[Pair, Pair]:
    return same_padding(sizes[0], *windows[0]), same_padding(sizes[1], *windows[1])
