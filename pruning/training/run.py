"""A run: progress of one method on one network. It executes no optimiser step itself.

A method is written as a generator: every ``yield`` requests one optimiser step from the driver, which is the built-in
trainer or the user's loop; the method continues after that step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import fx, nn

from mcu.budget import Budget
from pruning.engine import surgery
from pruning.engine.network import PrunableNetwork
from pruning.engine.structure import Edit
from pruning.training.checkpoint import StateDict

ROWS = 200
"""About how many rows of the trajectory are kept."""

Steps = Generator[None, None, None]
"""One optimiser step is to be taken at each item."""

Rebuild = Callable[[fx.GraphModule, Mapping[str, Any]], fx.GraphModule]
"""Gives the dense network the structure it had in a checkpoint, by the checkpoint's notes; weights do not matter."""


class Stateful(Protocol):
    """An object with state that belongs to a checkpoint."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Tensors by name."""

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state."""


class Run:
    """One method applied to one network.

    Attributes:
        network: the current network.
        budget: the bounds it has to meet.
        hyperparameters: what was chosen for the method.
        float_steps: optimiser steps before quantisation-aware training; all are available to the method.
        steps: optimiser steps of the whole run.
        step: optimiser steps taken so far.
        loss: of the last step, where it is known.
        parts: other state of a method that belongs to a checkpoint, by name.
        notes: state of a method in the checkpoint, as plain JSON.
        saved: the checkpoint this run resumes from, for parts that are created later.
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
        """Register a method's own state for checkpoints; if the run was resumed from one, load it."""
        self.parts[name] = part
        if self.saved and (state := self.saved["parts"].get(name)):
            part.load_state_dict(state)

    def once(self, name: str) -> bool:
        """True on the first call with this name in a run, including the time before a checkpoint; False afterwards."""
        if self.has_done(name):
            return False
        self.notes["done"] = [*self.notes.get("done", []), name]
        return True

    def has_done(self, name: str) -> bool:
        """Whether ``once`` was called with this name."""
        return name in self.notes.get("done", [])

    @property
    def edits(self) -> list[Sequence[Edit]]:
        """Changes of structure, by job of the lineage, in order."""
        return [self.notes.get("edits", [])]

    def train(
        self,
        phase: str,
        until: int,
        before: Callable[[], None] | None = None,
        detail: Callable[[], dict[str, object]] | None = None,
    ) -> Steps:
        """Request optimiser steps up to ``until``; ``before`` is called before each."""
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

    can_try = False
    """Whether ``trial_loss`` can train a network."""

    def trial_loss(self, module: nn.Module) -> float:
        """Training loss of a network after a few steps on the run's data; the run itself does not change."""
        raise NotImplementedError

    def stepped(self, phase: str) -> None:
        """Called at the end of every step."""

    def _row(self) -> dict[str, object]:
        used = self.network.resources
        channels = self.network.channels.tolist()
        return {"flash": used.flash, "sram": used.sram, "macs": used.macs, "widths": channels}

    def replace(self, module: fx.GraphModule) -> None:
        """Continue with a copy of another network."""
        self.network.replace(module)

    def state_dict(self) -> StateDict:
        """All state needed to resume from here, except the optimiser's."""
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
        """Resume with the same dense network.

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
