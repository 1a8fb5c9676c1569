"""A run in a loop of the user's own: the loop takes the steps, and its last batch stands for the data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.graph.ports import each
from pruning.engine.network import PrunableNetwork
from pruning.training.run import Run

Judge = Callable[[nn.Module], float]
"""Loss of a network on a few training samples."""


class LoopRun(Run):
    """A run whose steps a loop of the user's takes; all are available to the method.

    Args:
        given: the user's module, whose layers the network has.
        chosen: hyperparameters of the method.
        steps: how many the loop will take.
        judge: the user's loss of a network, if there is one.

    Attributes:
        last_input: of the last training step, while widths move.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        given: nn.Module,
        budget: Budget,
        chosen: Mapping[str, Any],
        steps: int,
        judge: Judge | None,
    ) -> None:
        super().__init__(network, budget, chosen, steps, steps)
        self._judge = judge
        self._given = None if given is network.module else given
        self._first = network.module, network.graph.widths
        self.last_input: tuple[torch.Tensor, ...] | None = None

    def take_over(self) -> None:
        """Close the user's module once its layers are resized, or others are trained in their place."""
        module, widths = self._first
        if self.network.module is not module or bool((self.network.graph.widths != widths).any()):
            self.close()

    def close(self) -> None:
        """Have the user's module refuse to be called: it would fail, or compute something else than the pruner."""
        if self._given is not None:
            self._given.register_forward_pre_hook(_refuse_call)
            self._given = None

    def batch(self) -> tuple[torch.Tensor, ...]:
        """Inputs of the last training step.

        Raises:
            InputError: if there are none.
        """
        if self.last_input is None:
            raise InputError(
                "step: no batch has passed through the pruner; compute the loss from pruner(x), not network(x)"
            )
        return self.last_input

    @torch.no_grad()
    def judge(self, module: nn.Module) -> float:
        """The user's loss, or the change of the output on the last batch."""
        if self._judge is not None:
            return self._judge(module)
        batch = self.batch()
        whole = copy.deepcopy(self.network.module).eval()
        pairs = zip(each(module.eval()(*batch)), each(whole(*batch)), strict=True)
        return sum(float((found.float() - wanted.float()).square().mean()) for found, wanted in pairs)


def _refuse_call(network: nn.Module, args: Any) -> None:
    raise InputError(
        f"network {type(network).__name__}: a Pruner has resized its layers; call the pruner in its place, or build "
        "the network anew"
    )
