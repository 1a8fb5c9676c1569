"""A run: how far a method has come with one network. It takes no optimiser step itself.

A method is written as a generator: every ``yield`` asks whoever drives it, our trainer or a loop of the user's, for one
optimiser step, and goes on when that has been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import torch
from torch import fx, nn

from mcu.budget import Budget
from pruning.engine import surgery
from pruning.engine.network import PrunableNetwork
from pruning.training.checkpoint import StateDict

ROWS = 200
"""About how many rows of the trajectory are kept."""

Steps = Generator[None, None, None]
"""One optimiser step is to be taken at each item."""

Rebuild = Callable[[fx.GraphModule, Mapping[str, Any]], fx.GraphModule]
"""Gives the dense network the structure it had in a checkpoint, by the checkpoint's notes; weights do not matter."""


class Stateful(Protocol):
    """Something with state of its own between steps."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Tensors by name."""

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from there."""


class Run:
    """One method at work on one network.

    Attributes:
        network: as it is now.
        budget: what it has to keep.
        hyperparameters: what was chosen for the method.
        float_steps: optimiser steps before int8 arithmetic is simulated; the method has them to itself.
        steps: optimiser steps of the whole run.
        step: optimiser steps taken so far.
        loss: of the last step, where it is known.
        parts: what else of a method's state belongs into a checkpoint, by name.
        notes: what a method keeps there as plain JSON.
        saved: the checkpoint this run goes on from, for parts that come into being later.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        budget: Budget,
        hyperparameters: Mapping[str, Any],
        float_steps: int,
        steps: int,
    ) -> None:
        self.network, self.budget, self.hyperparameters = network, budget, hyperparameters
        self.float_steps, self.steps, self.step = float_steps, steps, 0
        self.loss: float | None = None
        self.trajectory: list[dict[str, object]] = []
        self.parts: dict[str, Stateful] = {}
        self.notes: dict[str, Any] = {}
        self.saved: StateDict | None = None

    def part(self, name: str, part: Stateful) -> None:
        """Keep a method's own state in the checkpoints; if the run goes on from one, load it."""
        self.parts[name] = part
        if self.saved and (state := self.saved["parts"].get(name)):
            part.load_state_dict(state)

    def once(self, name: str) -> bool:
        """Whether something has not been done in this run yet, nor before its checkpoint; from now on it has."""
        if self.has_done(name):
            return False
        self.notes["done"] = [*self.notes.get("done", []), name]
        return True

    def has_done(self, name: str) -> bool:
        """Whether ``once`` has been asked for this."""
        return name in self.notes.get("done", [])

    def train(
        self,
        phase: str,
        until: int,
        before: Callable[[], None] | None = None,
        detail: Callable[[], dict[str, object]] | None = None,
    ) -> Steps:
        """Ask for optimiser steps up to ``until``; ``before`` runs ahead of each."""
        every = max(1, self.steps // ROWS)
        while self.step < until:
            if before:
                before()
            yield
            self.step += 1
            if self.step % every == 0 or self.step == until:
                loss = {} if self.loss is None else {"loss": round(self.loss, 4)}
                row = detail() if detail else self._row()
                self.trajectory.append({"step": self.step, "phase": phase, **loss, **row})
            self.stepped(phase)

    def judge(self, module: nn.Module) -> float:
        """Loss of a network on a few training samples, to choose between networks; smaller is better."""
        raise NotImplementedError

    def stepped(self, phase: str) -> None:
        """Called after every step, when all that belongs to it is done."""

    def _row(self) -> dict[str, object]:
        used = self.network.resources
        channels = self.network.channels.tolist()
        return {"flash": used.flash, "sram": used.sram, "macs": used.macs, "widths": channels}

    def replace(self, module: fx.GraphModule) -> None:
        """Go on with a copy of another network."""
        self.network.replace(module)

    def state_dict(self) -> StateDict:
        """All that is needed to go on from here, but for the optimiser."""
        return {
            "step": self.step,
            "layout": self.network.layout(),
            "noise": self.network.generator.get_state(),
            "trajectory": self.trajectory,
            "notes": self.notes,
            "network": self.network.tensors(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }

    def load_state_dict(self, state: StateDict, rebuild: Rebuild | None = None) -> None:
        """Go on from there with the same dense network.

        Args:
            state: of ``state_dict``.
            rebuild: for methods that change the structure of the network.
        """
        self.saved, self.step = state, state["step"]
        self.notes, self.trajectory = dict(state["notes"]), list(state["trajectory"])
        if rebuild:
            self.replace(rebuild(self.network.module, self.notes))
        self.network.load_layout(state["layout"])
        self.network.generator.set_state(state["noise"])
        if "network" in state:
            surgery.fill(self.network.tensors(), state["network"])
