"""Physical removal of channels: weights, statistics and optimiser state shrink together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.graph.graph import FIXED, Graph, Op, Tensor
from mcu.graph.kinds import Kind
from mcu.graph.layers import PReLU
from mcu.int8.folded_net import FoldedNet
from pruning.engine.gates import Gated, gated
from pruning.engine.rewriting import ALONE, Rewriter

NEW = -1
"""Source of a channel that was not there before."""

Change = Callable[[torch.Tensor, np.ndarray, np.ndarray | None, float | None], None]
"""Makes a parameter anew from the sources of its outputs, of its inputs if it has any, and the value of fresh rows."""


def kept_channels(tensor: Tensor, kept: list[np.ndarray]) -> np.ndarray:
    """Positions of a tensor's kept channels, given the kept members of each group."""
    stays: np.ndarray = tensor.groups == FIXED
    for index in np.unique(tensor.groups[~stays]):
        stays |= (tensor.groups == index) & np.isin(tensor.members, kept[index])
    return np.flatnonzero(stays)


def shrink(
    module: nn.Module,
    graph: Graph,
    kept: list[np.ndarray],
    write: Rewriter = ALONE,
    *,
    follows: bool = False,
) -> Graph:
    """Remove channels from ``module`` in place.

    Args:
        module: traced network, with or without gates attached.
        graph: its current graph.
        kept: ascending members to keep, one array per group.
        write: slices the parameters together with their optimiser state.
        follows: whether this is a copy of a network that has been pruned already, gates included.

    Returns:
        The graph of the smaller network (same groups in the same order).
    """
    positions = [kept_channels(tensor, kept) for tensor in graph.tensors]
    change = partial(_slice, write)
    for op, layer, norm in first_uses(graph):
        before, after = positions[op.inputs[0]], positions[op.output]
        if layer:
            resize_layer(layer_of(module, layer), before, after, op.kernel, change)
        if norm:
            _shrink_norm(layer_of(module, norm), after, change)
    smaller = _renumber(graph, positions, kept)
    renumber_gathers(module, smaller)
    for bank in () if follows else {id(wrapper.bank): wrapper.bank for _, wrapper in gated(module)}.values():
        bank.keep(kept)
    rebind(module, smaller)
    return smaller


def narrowed(network: FoldedNet, kept: list[np.ndarray]) -> FoldedNet:
    """A copy of a folded network with the kept channels only, on the CPU and ready for export; ranges are kept.

    Args:
        network: as it is trained.
        kept: ascending members to keep, one array per group.
    """
    copied = copy.deepcopy(network).cpu().eval()
    graph = network.graph
    positions = [kept_channels(tensor, kept) for tensor in graph.tensors]
    with torch.no_grad():
        for name, weight in copied.weights.items():
            op = graph.ops[int(name)]
            before = positions[op.inputs[0]]
            inputs = None if op.kind is Kind.DEPTHWISE else before[: len(before) // op.groups]
            _slice(ALONE, weight, positions[op.output], inputs, None)
            _slice(ALONE, copied.biases[name], positions[op.output], None, None)
        for name, slopes in copied.slopes.items():
            _slice(ALONE, slopes, positions[graph.ops[int(name)].output], None, None)
    copied.graph = _renumber(graph, positions, kept)
    return copied


def layer_tensors(module: nn.Module, graph: Graph) -> dict[str, torch.Tensor]:
    """Every parameter and running statistic of the network by path, whether gates are attached or not."""
    found: dict[str, torch.Tensor] = {}
    for op in graph.ops:
        for path in filter(None, (op.layer, op.norm)):
            found |= {
                f"{path}.{name}": tensor
                for name, tensor in layer_of(module, path).state_dict(keep_vars=True).items()
                if name != "num_batches_tracked"
            }
    return found


def fill(targets: Mapping[str, torch.Tensor], sources: Mapping[str, torch.Tensor]) -> None:
    """Copy values into a network's tensors by path."""
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(sources[name])


def first_uses(graph: Graph) -> Iterator[tuple[Op, str | None, str | None]]:
    """Operators with the paths of their layer and normalisation; None for one that an earlier operator uses."""
    seen: set[str | None] = set()
    for op in graph.ops:
        layer, norm = (None if path in seen else path for path in (op.layer, op.norm))
        seen |= {op.layer, op.norm}
        yield op, layer, norm


def layer_of(module: nn.Module, path: str) -> Any:
    """The layer at a path, without its gate."""
    layer = module.get_submodule(path)
    return layer.layer if isinstance(layer, Gated) else layer


def resize_layer(layer: Any, before: np.ndarray, after: np.ndarray, kernel: tuple[int, int], change: Change) -> None:
    """Change the channels of a layer.

    Args:
        layer: convolution, depthwise, transposed or dense layer, or a PReLU.
        before, after: where each input and output channel comes from, or ``NEW``.
        kernel: positions that a dense layer reads per channel.
        change: computes the new value of one parameter.
    """
    if isinstance(layer, PReLU):
        if layer.weight.numel() > 1:
            change(layer.weight, after, None, float(layer.weight.detach().mean()))
    elif isinstance(layer, nn.Linear):
        taps = kernel[0] * kernel[1]
        features = np.where(before[:, None] == NEW, NEW, before[:, None] * taps + np.arange(taps)).ravel()
        change(layer.weight, after, features, None)
        layer.in_features, layer.out_features = len(features), len(after)
    elif layer.groups > 1 and not layer.depthwise:
        change(layer.weight, after, before[: len(before) // layer.groups], None)
        layer.in_channels, layer.out_channels = len(before), len(after)
    elif layer.groups > 1:
        change(layer.weight, after, None, None)
        layer.in_channels = layer.groups = len(before)
        layer.out_channels = len(after)
    else:
        change(layer.weight, after, before, None)
        layer.in_channels, layer.out_channels = len(before), len(after)
    if layer.bias is not None:
        change(layer.bias, after, None, 0.0)


def _shrink_norm(norm: Any, after: np.ndarray, change: Change) -> None:
    index = torch.as_tensor(after, device=norm.running_mean.device)
    norm.running_mean = norm.running_mean[index].clone()
    norm.running_var = norm.running_var[index].clone()
    norm.num_features = len(after)
    if norm.affine:
        change(norm.weight, after, None, None)
        change(norm.bias, after, None, None)


def _slice(
    write: Rewriter,
    parameter: torch.Tensor,
    outputs: np.ndarray,
    inputs: np.ndarray | None,
    fresh: float | None,
) -> None:
    """Keep some outputs and inputs."""

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        for axis, index in enumerate([outputs] if inputs is None else [outputs, inputs]):
            tensor = tensor.index_select(axis, torch.as_tensor(index, device=tensor.device))
        return tensor

    write(parameter, cut, cut)


def _renumber(graph: Graph, positions: list[np.ndarray], kept: list[np.ndarray]) -> Graph:
    def smaller(tensor: Tensor, stays: np.ndarray) -> Tensor:
        groups, members = tensor.groups[stays], tensor.members[stays].copy()
        for index, old in enumerate(kept):
            mine = groups == index
            members[mine] = np.searchsorted(old, members[mine])
        return replace(tensor, groups=groups, members=members)

    tensors = tuple(smaller(tensor, stays) for tensor, stays in zip(graph.tensors, positions, strict=True))
    groups = tuple(replace(g, size=len(members)) for g, members in zip(graph.groups, kept, strict=True))
    ops = tuple(replace(op, order=_renumbered(op, positions)) if op.order else op for op in graph.ops)
    return replace(graph, tensors=tensors, groups=groups, ops=ops)


def _renumbered(op: Op, positions: list[np.ndarray]) -> tuple[int, ...]:
    stay = np.array(op.order)[positions[op.output]]
    return tuple(np.searchsorted(positions[op.inputs[0]], stay).tolist())


def renumber_gathers(module: nn.Module, graph: Graph) -> None:
    """Give the layers that gather channels the numbers that these have in the graph."""
    for op in graph.ops:
        if op.kind is Kind.GATHER:
            layer_of(module, op.name).order = op.order


def rebind(module: nn.Module, graph: Graph) -> None:
    """Bind the wrappers to the smaller bank."""
    wrappers = dict(gated(module))
    for op in graph.ops:
        wrapper = wrappers.get(op.norm or op.layer or "")
        if wrapper:
            tensor = graph.tensors[op.output]
            wrapper.groups = tensor.groups
            wrapper.bind(tensor.members)
