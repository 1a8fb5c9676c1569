"""In-place change of parameter shapes, together with their optimiser state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mcu.errors import InputError
from mcu.int8.folded_net import FoldedNet

Rewriting = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Rewriter:
    """Changes parameters together with their optimiser state.

    Attributes:
        optimizers: whose state follows.
        memory_format: of 4-D tensors. Indexing may leave strides that fast convolution kernels do not accept, and the
            strides of a tensor with one input channel are ambiguous.
    """

    optimizers: Sequence[torch.optim.Optimizer] = ()
    memory_format: torch.memory_format = torch.channels_last

    def __call__(self, parameter: torch.Tensor, values: Rewriting, state: Rewriting) -> None:
        """The Parameter object, the state's key, stays.

        Raises:
            InputError: for state that cannot follow.
        """
        for optimizer in self.optimizers:
            kept = optimizer.state.get(parameter, {})
            for key, value in kept.items():
                if can_follow(optimizer, key, value, parameter):
                    kept[key] = self.laid_out(_rewritten(value, parameter.shape, state))
        with torch.no_grad():
            parameter.grad = None
            fresh = self.laid_out(values(parameter.data))
            # torch forgets a parameter's node in the autograd graph when its type changes, not when its shape does; a
            # loss of earlier that somebody still holds would keep the node, and the next gradient be refused for its
            # shape
            parameter.data = fresh.new_empty(0, dtype=torch.float32 if fresh.dtype is torch.float64 else torch.float64)
            parameter.data = fresh

    def laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in the memory format."""
        return tensor.clone(memory_format=self.memory_format if tensor.dim() == 4 else torch.contiguous_format)


ALONE = Rewriter()
"""Without optimisers."""


def can_follow(optimizer: torch.optim.Optimizer, key: str, value: Any, parameter: torch.Tensor) -> bool:
    """Whether a value of an optimiser's state has one entry per weight, row or column.

    Raises:
        InputError: if it is neither that nor a scalar.
    """
    if not isinstance(value, torch.Tensor | list | tuple | dict):
        return False
    if isinstance(value, torch.Tensor):
        sizes = zip(value.shape, parameter.shape, strict=False)
        if value.dim() == parameter.dim() and all(size in (1, wanted) for size, wanted in sizes):
            return value.dim() > 0
        if value.numel() <= 1:
            return False
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    raise InputError(
        f"optimizer {type(optimizer).__name__}: its state {key!r} ({shape}) of a parameter {tuple(parameter.shape)} "
        "cannot be resized when channels are removed; allowed are optimizers that keep values for each weight, row or "
        "column, such as SGD, Adam, AdamW, RMSprop, NAdam and Adafactor"
    )


def _rewritten(value: torch.Tensor, shape: torch.Size, state: Rewriting) -> torch.Tensor:
    """State of the parameter's shape, or with some axes of length 1 as factored optimisers keep it."""
    whole = state(value.expand(shape))
    for axis, (size, full) in enumerate(zip(value.shape, shape, strict=True)):
        if size != full:
            whole = whole.narrow(axis, 0, 1)
    return whole


def repoint(
    optimizer: torch.optim.Optimizer, before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]
) -> None:
    """Replace an optimiser's parameters by those of another network, by path, with the state that fits.

    New ones join the first group that has parameters of the network. The order is that of ``after``.
    """
    place = {id(tensor): index for index, tensor in enumerate(after.values())}
    names = {id(tensor): name for name, tensor in before.items()}
    fresh = [t for name, t in after.items() if name not in before and isinstance(t, torch.nn.Parameter)]
    for group in optimizer.param_groups:
        ours = [names[id(parameter)] for parameter in group["params"] if id(parameter) in names]
        others = [parameter for parameter in group["params"] if id(parameter) not in names]
        for name in ours:
            state = optimizer.state.pop(before[name], None)
            if state and name in after and after[name].shape == before[name].shape:
                optimizer.state[after[name]] = state
        kept = [after[name] for name in ours if name in after] + (fresh if ours else [])
        group["params"] = sorted(kept, key=lambda parameter: place[id(parameter)]) + others
        fresh = [] if ours else fresh


def hand_over(optimizer: torch.optim.Optimizer, module: torch.nn.Module, folded: FoldedNet) -> None:
    """Replace an optimiser's parameters by those of the folded network, without state.

    A weight joins the group of the layer's weight, a bias that of the bias of the layer or of its normalisation.
    """
    homes = {id(p): index for index, group in enumerate(optimizer.param_groups) for p in group["params"]}
    gone = {id(parameter) for parameter in module.parameters()}
    fresh: list[list[torch.Tensor]] = [[] for _ in optimizer.param_groups]
    for index, op in enumerate(folded.graph.ops):
        layer: Any = module.get_submodule(op.layer) if op.layer else None
        home = homes.get(id(layer.weight)) if layer is not None else None
        if home is None:
            continue
        if str(index) in folded.slopes:
            fresh[home].append(folded.slopes[str(index)])
            continue
        bias = module.get_submodule(op.norm).bias if op.norm else layer.bias
        fresh[home].append(folded.weights[str(index)])
        fresh[homes.get(id(bias), home)].append(folded.biases[str(index)])
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        for parameter in group["params"]:
            if id(parameter) in gone:
                optimizer.state.pop(parameter, None)
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in gone] + new


def forget_unfitting(optimizer: torch.optim.Optimizer) -> None:
    """Drop the state of parameters whose shape has changed."""

    def fits(value: Any, parameter: torch.Tensor) -> bool:
        if not isinstance(value, torch.Tensor) or value.numel() <= 1:
            return True
        sizes = zip(value.shape, parameter.shape, strict=False)
        return value.dim() == parameter.dim() and all(size in (1, wanted) for size, wanted in sizes)

    for parameter, kept in list(optimizer.state.items()):
        if not all(fits(value, parameter) for value in kept.values()):
            del optimizer.state[parameter]
