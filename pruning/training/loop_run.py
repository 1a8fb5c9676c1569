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
        chosen: hyperparameters of the method.
        steps: how many the loop will take.
        judge: the user's loss of a network, if there is one.

    Attributes:
        last_input: of the last training step, while widths move.
    """

    def __init__(
        self, network: PrunableNetwork, budget: Budget, chosen: Mapping[str, Any], steps: int, judge: Judge | None
    ) -> None:
        super().__init__(network, budget, chosen, steps, steps)
        self._judge = judge
        self.last_input: tuple[torch.Tensor, ...] | None = None

    @torch.no_grad()
    def judge(self, module: nn.Module) -> float:
        """The user's loss, or the change of the output on the last batch."""
        if self._judge is not None:
            return self._judge(module)
        if self.last_input is None:
            raise InputError("no batch has passed through the pruner in training; call pruner(x), not the network")
        whole = copy.deepcopy(self.network.module).eval()
        pairs = zip(each(module.eval()(*self.last_input)), each(whole(*self.last_input)), strict=True)
        return sum(float((found.float() - wanted.float()).square().mean()) for found, wanted in pairs)
