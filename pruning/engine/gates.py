"""Rank gates: one trained width per channel group, a soft step over channels ranked by importance.

The gate of the channel with rank r (0 is the most important) in a group of width w is

    m = sigmoid((w - r - 1/2) / tau)

so the sum of a group's gates is about w and the gradient on w is the importance of the marginal channel. A
gate scales the affine part of the batch normalisation behind a convolution (or the convolution's own weights
and bias), never an activation map: it multiplies vectors, not feature maps, and a closed gate yields exact
zeros at every operator that writes the channel, so that removing the channel changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph.graph import FIXED, Graph
from mcu.graph.kinds import Kind
from mcu.graph.layers import Affine


class GateBank:
    """All gates of a network as one vector, groups one after the other.

    Attributes:
        values: gate of every slot, float32 ``(slots + 1,)``; the last is 1, for fixed channels. None: all open.
        importance: moving average of the first-order Taylor importance ``|m * dL/dm|``, float32 ``(slots,)``
            (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019).
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = list(sizes)
        self.values: torch.Tensor | None = None
        self._gates: torch.Tensor | None = None
        self._leaf: torch.Tensor | None = None
        self.importance = torch.zeros(sum(sizes))
        self._layers: list[Gated] = []
        self._gathered: tuple[torch.Tensor, ...] | None = None
        self._served: set[int] = set()
        self._graded = True
        self._layout()

    def _layout(self) -> None:
        self.group_of = torch.repeat_interleave(
            torch.arange(len(self.sizes)), torch.tensor(self.sizes, dtype=torch.long)
        )
        self.starts = torch.tensor([0, *np.cumsum(self.sizes)[:-1].tolist()])
        self.ranks = self._rank()

    def _rank(self) -> torch.Tensor:
        """Rank of every slot within its group, most important first; float32 ``(slots,)``."""
        by_importance = torch.argsort(self.importance, descending=True, stable=True)
        order = by_importance[torch.argsort(self.group_of[by_importance], stable=True)]
        ranks = torch.empty(len(order))
        ranks[order] = torch.arange(len(order), dtype=torch.float32) - self.starts[self.group_of[order]]
        return ranks

    def set_soft(self, widths: torch.Tensor, temperatures: torch.Tensor) -> None:
        """Open the gates softly: float64 widths ``(groups,)`` with gradient, temperatures ``(groups,)`` in channels."""
        groups = self.group_of
        steps = (widths[groups].float() - self.ranks - 0.5) / temperatures[groups].float()
        self.set_gates(torch.sigmoid(steps))

    def set_gates(self, gates: torch.Tensor) -> None:
        """Set every gate individually: float32 ``(slots,)`` with gradient.

        Any number of forward and backward passes may follow; gradients reach the inputs of ``gates`` in
        ``learn_importance``.
        """
        self._gates, self._leaf = gates, gates.detach().requires_grad_()
        self._set(torch.cat([self._leaf, torch.ones(1)]))

    def _set(self, values: torch.Tensor | None) -> None:
        self.values, self._gathered = values, None

    def add(self, layer: Gated) -> int:
        """Register one more layer; returns its place."""
        self._layers.append(layer)
        return len(self._layers) - 1

    def gates_of(self, place: int) -> torch.Tensor | None:
        """Gates of a layer's output channels, gathered for all layers once a forward pass; None: all open."""
        if self.values is None:
            return None
        graded = torch.is_grad_enabled()
        if self._gathered is None or place in self._served or self._graded != graded:
            slots = [layer.slots for layer in self._layers]
            values = self.values if self._leaf is None else torch.cat([self._leaf, torch.ones(1)])
            gathered = values[torch.cat(slots)].to(self._layers[0].device)
            self._gathered, self._served, self._graded = gathered.split([len(own) for own in slots]), set(), graded
        self._served.add(place)
        return self._gathered[place]

    def watch(self) -> None:
        """Set all gates to 1, with gradients, to learn importances before any gate closes."""
        self.set_gates(torch.ones(len(self.importance), requires_grad=True))

    def set_hard(self, kept: list[np.ndarray]) -> None:
        """Gates exactly 1 for the kept members of each group and 0 for the others."""
        values = torch.zeros(len(self.importance) + 1)
        values[-1] = 1.0
        for start, members in zip(self.starts.tolist(), kept, strict=True):
            values[start + torch.as_tensor(members, dtype=torch.long)] = 1.0
        self._gates = self._leaf = None
        self._set(values)

    def open(self) -> None:
        """No gating at all."""
        self._set(None)
        self._gates = self._leaf = None

    def learn_importance(self, momentum: float = 0.98) -> None:
        """Update the importances with the gradients of the last backward pass."""
        gradient = self.gradient
        if gradient is None or self._leaf is None or not bool(torch.isfinite(gradient).all()):
            return
        if self._gates is not None and self._gates.requires_grad:
            self._gates.backward(gradient)
        self.importance.mul_(momentum).add_((gradient * self._leaf.detach()).abs(), alpha=1 - momentum)

    def require_learned(self) -> None:
        """Refuse to rank channels of which no backward pass has told anything.

        Raises:
            InputError: saying how a loop passes gradients.
        """
        if self.gradient is None and not bool(self.importance.any()):
            raise InputError(
                "step: no gradient has reached the pruner's channels, which would be removed at random; compute the "
                "loss from pruner(x), and call loss.backward() rather than torch.autograd.grad"
            )

    @property
    def gradient(self) -> torch.Tensor | None:
        """Gradient of the loss by every gate since they were set, float32 ``(slots,)``; None before a backward pass."""
        return None if self._leaf is None else self._leaf.grad

    def scale_gradient(self, factor: float) -> None:
        """Multiply the gradient, of a loss that was scaled."""
        if factor != 1 and self._leaf is not None and self._leaf.grad is not None:
            self._leaf.grad.mul_(factor)

    def share_gradient(self) -> None:
        """Average the gradient over all ranks of ``torch.distributed``, so that widths stay equal on all of them."""
        if self._leaf is None:
            return
        gradient = torch.zeros_like(self._leaf) if self._leaf.grad is None else self._leaf.grad
        shared = gradient.to(self._layers[0].device) if torch.distributed.get_backend() == "nccl" else gradient
        torch.distributed.all_reduce(shared)
        self._leaf.grad = shared.to(gradient.device) / torch.distributed.get_world_size()

    def rerank(self) -> None:
        """Rank channels by their current importance."""
        self.ranks = self._rank()

    def best(self, widths: np.ndarray) -> list[np.ndarray]:
        """Members of each group to keep at integer widths, ascending."""
        ranks = self.ranks.split(self.sizes)
        return [np.flatnonzero(rank.numpy() < width) for rank, width in zip(ranks, widths, strict=True)]

    def take_importance(self, module: nn.Module, known: Mapping[str, torch.Tensor]) -> None:
        """Importances of the channels of layers, by path, as of ``importance_of_channels``."""
        for path, layer in _gated(module):
            own = layer.slots < len(self.importance)
            self.importance[layer.slots[own]] = known[path][own]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State for a checkpoint."""
        return {"importance": self.importance, "ranks": self.ranks}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state of a bank of the same sizes."""
        self.importance, self.ranks = state["importance"].clone(), state["ranks"].clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> GateBank:
        """Itself: copies of a network under pruning are gated as it is."""
        return self

    def keep(self, kept: list[np.ndarray]) -> None:
        """Drop the gates of removed channels."""
        slots = np.concatenate([start + members for start, members in zip(self.starts.tolist(), kept, strict=True)])
        self.importance = self.importance[torch.as_tensor(slots)]
        self.sizes = [len(members) for members in kept]
        self._layout()
        self.open()


class Gated(nn.Module):
    """A layer whose output channels are scaled by gates of a bank."""

    def __init__(self, layer: Any, bank: GateBank, groups: np.ndarray) -> None:
        super().__init__()
        self.layer: Any = layer
        self.bank = bank
        self.groups = groups
        self.place = bank.add(self)

    @property
    def device(self) -> torch.device:
        """Device of the layer."""
        held: torch.Tensor = next(chain(self.layer.parameters(), self.layer.buffers()))
        return held.device

    def bind(self, members: np.ndarray) -> None:
        """Point each output channel at its slot in the bank; fixed channels at the last one."""
        starts = np.append(self.bank.starts.numpy(), sum(self.bank.sizes))
        group = np.where(self.groups == FIXED, len(self.bank.sizes), self.groups)
        self.slots = torch.as_tensor(starts[group] + np.where(self.groups == FIXED, 0, members))

    def gates(self) -> torch.Tensor | None:
        """Gate of every output channel."""
        return self.bank.gates_of(self.place)


class GatedNorm(Gated):
    """Batch normalisation with gated scale and shift."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(N, C, ...)``."""
        gates, norm = self.gates(), self.layer
        if gates is None:
            return norm(x)
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            norm.running_mean,
            norm.running_var,
            gates if norm.weight is None else norm.weight * gates,
            None if norm.bias is None else norm.bias * gates,
            norm.training,
            norm.momentum if norm.momentum is not None else 0.1,
            norm.eps,
        )


class GatedAffine(Gated):
    """Per-channel scale and shift, gated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift ``(N, C, ...)``."""
        gates, layer = self.gates(), self.layer
        if gates is None:
            return layer(x)
        shape = (-1, *(1,) * (x.ndim - 2))
        return x * (layer.weight * gates).view(shape) + (layer.bias * gates).view(shape)


class GatedLayer(Gated):
    """A convolution or dense layer without batch normalisation, its filters and bias gated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to ``(N, C, ...)``."""
        gates, layer = self.gates(), self.layer
        if gates is None:
            return layer(x)
        weight = layer.weight * gates.view(-1, *[1] * (layer.weight.dim() - 1))
        bias = None if layer.bias is None else layer.bias * gates
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        return layer._conv_forward(x, weight, bias)


def _gated(module: nn.Module) -> list[tuple[str, Gated]]:
    return [(path, layer) for path, layer in module.named_modules() if isinstance(layer, Gated)]


def importance_of_channels(module: nn.Module) -> dict[str, torch.Tensor]:
    """Importance of every output channel of each gated layer by path, float32 ``(channels,)``; 0 for fixed ones."""
    return {path: torch.cat([layer.bank.importance, torch.zeros(1)])[layer.slots] for path, layer in _gated(module)}


def attach(module: fx.GraphModule, graph: Graph) -> GateBank:
    """Wrap every layer that writes removable channels; returns the bank of their gates."""
    bank = GateBank(graph.widths.tolist())
    for op in graph.ops:
        path, tensor = op.norm or op.layer, graph.tensors[op.output]
        if path is None or op.kind is Kind.PRELU or (tensor.groups == FIXED).all():
            continue
        layer = module.get_submodule(path)
        if isinstance(layer, Gated):
            continue  # used by an earlier operator too
        kind = GatedAffine if isinstance(layer, Affine) else GatedNorm if op.norm else GatedLayer
        wrapper = kind(layer, bank, tensor.groups)
        wrapper.bind(tensor.members)
        module.set_submodule(path, wrapper)
    return bank


def gated(module: nn.Module) -> Iterator[tuple[str, Gated]]:
    """The wrapped layers by path."""
    return ((path, child) for path, child in list(module.named_modules()) if isinstance(child, Gated))


def detach(module: nn.Module) -> None:
    """Remove the wrappers; the layers do not change."""
    for path, wrapper in gated(module):
        module.set_submodule(path, wrapper.layer)
