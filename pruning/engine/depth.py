"""Removal of residual branches for small budgets.

An operator has fixed costs in flash and memory that do not depend on its width: its record in the file, the
interpreter's structures and parameters of each layer. Narrowing does not reduce these, but networks with shortcuts
still work without single branches (Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow
Networks", NeurIPS 2016). The choice of branches is by measured loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from torch import fx, nn

from mcu.budget import Budget, Resources
from mcu.graph.graph import Graph
from mcu.graph.kinds import Kind
from mcu.graph.places import is_within
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import Traced
from pruning.engine.landing import smallest
from pruning.engine.network import Constraints

FIXED_FRACTION = 0.1
"""Branches go until what one channel per group takes is this fraction of every bound, or none is left."""

MOST_FIXED = 0.9
FAR = 8.0
"""What is left must have to shrink this many times to meet the bound, or widths were the better thing to give up;
unless fixed costs take more than ``MOST_FIXED`` of it."""

LEAST_RELIEF = 0.005
"""A branch whose removal gives back less of a bound than this fraction does not go for its sake."""

CONTESTED = 0.5
"""Where one channel per group takes more than this fraction of a bound, networks without branches are tried."""

TRIED = 3
CLEAR = 0.94
"""A network whose loss is below this fraction of another's is the better one, whatever else: trials are short, and what
heals fast at first is not always what learns most."""

MORE_USE = 0.05
"""If neither is, one that makes use of so much more of the bounds, on average, is better."""

Loss = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Contender:
    """A network that was pruned to the budget and trained for a few steps.

    Attributes:
        loss: at the end.
        use: mean fraction of the bounds that it uses; what a network cannot use it cannot learn with.
        most: largest fraction of a bound that it uses.
    """

    loss: float
    use: float
    most: float = 1.0

    def beats(self, longer: Contender) -> bool:
        """Whether it is better than a network with more branches, which wins if they cannot be told apart."""
        if self.loss < CLEAR * longer.loss or self.loss > longer.loss / CLEAR:
            return self.loss < longer.loss
        return self.use > longer.use + MORE_USE


Contest = Callable[[fx.GraphModule], Contender | None]
"""Prunes and trains a network; None if no widths meet the budget."""

Removal = tuple[str, str]
"""Names of two fx nodes: a sum, and the addend that goes."""


@dataclass(frozen=True)
class Branch:
    """A residual branch: an addend whose only consumer is its addition.

    Attributes:
        removal: how it is removed.
        layers: paths of the layers that are removed with it.
    """

    removal: Removal
    layers: frozenset[str]


def branches(traced: Traced, frozen: Iterable[str] = ()) -> list[Branch]:
    """The removable branches in order of execution: of each addition, the addend with more layers of its own."""
    nodes = {node.name: node for node in traced.module.graph.nodes}
    layers = {node: op.layer for op in traced.graph.ops if op.layer for node in (op.node, op.anchor)}
    found = []
    for total in (nodes[op.anchor] for op in traced.graph.ops if op.kind is Kind.ADD):
        addends = total.all_input_nodes
        if len(addends) != 2:
            continue  # something added to itself
        own = {
            addend: frozenset(layers[node.name] for node in _own(addend, other, total) if node.name in layers)
            for addend, other in (addends, addends[::-1])
        }
        longest = max(own, key=lambda addend: len(own[addend]))
        if own[longest] and not any(is_within(layer, frozen) for layer in own[longest]):
            found.append(Branch((total.name, longest.name), own[longest]))
    return found


def _own(end: fx.Node, other: fx.Node, reader: fx.Node) -> set[fx.Node]:
    """The nodes that lead to ``end``, which ``reader`` alone reads, and to nothing else; not to the other addend."""
    inside: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        free = node is not other and node.op != "placeholder" and set(node.users) <= inside | {reader}
        if free and node not in inside:
            inside.add(node)
            waiting += node.all_input_nodes
    return inside


def without(module: fx.GraphModule, removals: Iterable[Removal]) -> fx.GraphModule:
    """A copy in which each named addition is replaced by its other addend; additions already removed are skipped."""
    network = copy.deepcopy(module)
    for total, goes in removals:
        node = next((node for node in network.graph.nodes if node.name == total), None)
        addends = {addend.name: addend for addend in node.all_input_nodes} if node is not None else {}
        if node is not None and addends.pop(goes, None) is not None:
            (stays,) = addends.values()
            node.replace_all_uses_with(stays)
            network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def shallowest(network: nn.Module, constraints: Constraints) -> Graph:
    """The network without all removable branches."""
    traced = constraints.trace(network)
    removals = [branch.removal for branch in branches(traced, constraints.frozen)]
    return constraints.trace(without(traced.module, removals)).graph


def is_contested(model: ResourceModel, budget: Budget) -> bool:
    """Whether fixed costs take so large a fraction of a bound that trials are worth their time."""
    return bool(fixed_shares(model, budget).max() > CONTESTED)


def is_cramped(model: ResourceModel, budget: Budget) -> bool:
    """Whether fixed costs take too large a fraction of a bound."""
    return bool(fixed_shares(model, budget).max() > FIXED_FRACTION)


def expendable(module: fx.GraphModule, constraints: Constraints, budget: Budget, loss: Loss) -> list[Removal]:
    """The branches to remove, in this order: smallest increase of the loss first.

    The decision depends on how far this network has to shrink, not the dense network at the root of its lineage: a
    network that approached the budget in steps needs its remaining branches.
    """
    removed: list[Removal] = []
    whole = constraints.model(module)
    shares = fixed_shares(whole, budget)
    if not _are_tight(_used(whole), budget, shares).any():
        return removed  # nor will they be with fewer branches
    candidates = [branch.removal for branch in branches(constraints.trace(module), constraints.frozen)]
    losses = {removal: loss(without(module, [removal])) for removal in candidates}
    for removal in sorted(candidates, key=losses.__getitem__):
        if shares.max() <= FIXED_FRACTION:
            break
        shorter = constraints.model(without(module, [*removed, removal]))
        fewer = fixed_shares(shorter, budget)
        if ((shares - fewer >= LEAST_RELIEF) & _are_tight(_used(shorter), budget, shares)).any():
            removed, shares = [*removed, removal], fewer
    return removed


def contested(module: fx.GraphModule, constraints: Constraints, budget: Budget, contest: Contest) -> list[Removal]:
    """The branches to remove, by trial: those without which the network, pruned to the budget, is better.

    Of the branches that relieve the bound whose fixed part is largest, the ``TRIED`` that do so most are left out one
    at a time, then the best of them together: two, three, and so on, as long as that is better, or fixed costs take
    more than ``MOST_FIXED`` of the bound. Of more than ``TRIED``, half and all are tried as well: a few give too little
    back to show what their room is worth.
    """
    shares = fixed_shares(constraints.model(module), budget)
    bound = int(shares.argmax())

    def relief(removal: Removal) -> float:
        shorter = constraints.model(without(module, [removal]))
        return float((shares - fixed_shares(shorter, budget))[bound])

    every = [branch.removal for branch in branches(constraints.trace(module), constraints.frozen)]
    reliefs = {removal: relief(removal) for removal in every}
    helpful = sorted((one for one in every if reliefs[one] >= LEAST_RELIEF), key=reliefs.__getitem__, reverse=True)
    alone = {removal: contest(without(module, [removal])) for removal in helpful[:TRIED]}
    losses = {removal: tried.loss if tried else np.inf for removal, tried in alone.items()}
    order = [*sorted(losses, key=losses.__getitem__), *helpful[TRIED:]]
    removed: list[Removal] = []
    best = contest(module) if order else None
    for count in range(1, len(order) + 1):
        tried = alone[order[0]] if count == 1 else contest(without(module, order[:count]))
        cannot_stay = fixed_shares(constraints.model(without(module, removed)), budget)[bound] > MOST_FIXED
        if best is not None and not cannot_stay and (tried is None or not tried.beats(best)):
            break
        removed, best = order[:count], tried
    for count in (len(order) // 2, len(order)) if len(order) > TRIED else ():  # one more was tried above
        tried = contest(without(module, order[:count])) if count > len(removed) + 1 else None
        if tried is not None and (best is None or tried.beats(best)):
            removed, best = order[:count], tried
    return removed


def _used(model: ResourceModel) -> Resources:
    return model.exact(model.dense_widths)


def _are_tight(dense: Resources, budget: Budget, shares: np.ndarray) -> np.ndarray:
    """Which bounds are worth a branch of what would be left, given the ``shares`` that are fixed with it."""
    times = np.array([0.0, *(getattr(dense, name) / bound for name, bound in budget.bounds().items())])
    return ((shares > FIXED_FRACTION) & (times >= FAR)) | (shares > MOST_FIXED)


def fixed_shares(model: ResourceModel, budget: Budget) -> np.ndarray:
    """What one channel in every group takes, as a fraction of each bound; 0 if there is no bound."""
    floor = smallest(model)
    return np.array([0.0, *(getattr(floor, name) / bound for name, bound in budget.bounds().items())])
