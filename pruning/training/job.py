"""A job: a run on a problem with the built-in training loop; reports and checkpoints between epochs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.int8.model import Int8Model
from pruning.engine.network import PrunableNetwork
from pruning.engine.structure import Edit
from pruning.training.checkpoint import (
    StateDict,
    load_optimizer_state,
    read_checkpoint,
    write_checkpoint,
)
from pruning.training.evaluation import training_loss
from pruning.training.problem import Problem, Progress, Report, Settings, StoppedError
from pruning.training.run import Rebuild, Run
from pruning.training.steps import Trainer

T = TypeVar("T")

TRIAL_STEPS = 60
"""Optimiser steps of a network that is tried."""

Charge = Callable[[Int8Model, Resources], Resources]


def origin_of(problem: Problem) -> Resources | None:
    """Resources of the dense network, if a job starts from another one."""
    if problem.ancestor is None:
        return None
    model = problem.constraints.model(problem.network())
    return model.exact(model.dense_widths)


class Job(Run):
    """One method applied to one problem.

    Attributes:
        trainer: executes the optimiser steps.
        charge: resources to compare with the budget, given the finished model and its measured resources; by default
            the latter.
        folded: the network during quantisation-aware training.
        shared_seconds: training time of a dense parent that another job had trained.
    """

    def __init__(
        self,
        problem: Problem,
        budget: Budget,
        settings: Settings,
        report: Report,
        method: str,
        rebuild: Rebuild | None = None,
    ) -> None:
        self.problem, self.settings, self.report, self.method = problem, settings, report, method
        torch.manual_seed(settings.seed)
        network = PrunableNetwork(problem.start(), problem.constraints, settings.seed)
        network.origin = origin_of(problem)
        self.trainer = Trainer(network.module, problem, settings)
        network.optimizers = [self.trainer.optimizer]
        super().__init__(network, budget, settings.hyperparameters, self.trainer.float_steps, self.trainer.steps)
        self.shared_seconds = 0.0
        self.folded: nn.Module | None = None
        self.charge: Charge | None = None
        saved = read_checkpoint(settings.checkpoint) if settings.checkpoint else None
        if saved:
            self.load_state_dict(saved, rebuild)

    @property
    def edits(self) -> list[Sequence[Edit]]:
        """Changes of structure, by job of the lineage, in order."""
        return [*(self.problem.ancestor.edits if self.problem.ancestor else ()), *super().edits]

    def drive(self, steps: Generator[None, None, T]) -> T:
        """Execute all steps that a method requests, and return its result.

        Raises:
            StoppedError: when a report is answered with False.
            DivergedError: when the loss is not finite.
        """
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer: T = end.value
                return answer
            self.loss = self.trainer.take_step(self.step)

    def judge(self, module: nn.Module) -> float:
        """Mean loss on a few training batches."""
        return training_loss(module, self.problem)

    can_try = True

    def trial_loss(self, module: nn.Module) -> float:
        """Mean training loss over the second half of ``TRIAL_STEPS`` steps, which are the same for every network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            trainer = Trainer(module.train(), self.problem, replace(self.settings, checkpoint=None))
            trainer.span = (0, TRIAL_STEPS)
            trainer.float_steps = max(trainer.float_steps, TRIAL_STEPS)  # a job may be shorter than the trial
            losses = [trainer.take_step(step) for step in range(TRIAL_STEPS)]
        return float(np.mean(losses[TRIAL_STEPS // 2 :]))

    def stepped(self, phase: str) -> None:
        """Between epochs: write a checkpoint, and report, which may end the job."""
        if self.step % len(self.trainer.batches):
            return
        self.trainer.require_finite(self.step)
        if self.settings.checkpoint:
            write_checkpoint(self.settings.checkpoint, self.state_dict())
        self._report(phase)

    def _report(self, phase: str) -> None:
        epoch, before = len(self.trainer.batches), self.trainer.recipe.parent_epochs
        done = before + self.step / epoch
        step = before * epoch + self.step
        if not self.report(Progress(step, done, phase, self.trainer.val_accuracy(), self.network.resources)):
            raise StoppedError(f"stopped by the rule after {done:g} of {self.settings.epochs} epochs")

    def replace(self, module: nn.Module) -> None:
        """Continue with a copy of another network and a new optimiser."""
        super().replace(module)  # type: ignore[arg-type]
        self.set_module(self.network.module)

    def set_module(self, module: nn.Module) -> None:
        """Train this module from here on, with a new optimiser."""
        before = self.trainer.optimizer
        self.trainer.set_module(module)
        self.network.optimizers = [self.trainer.optimizer if o is before else o for o in self.network.optimizers]

    def state_dict(self) -> StateDict:
        """All state needed to resume from here."""
        return super().state_dict() | {
            "optimizer": self.trainer.optimizer.state_dict(),
            "random": self.trainer.random_state(),
            "folded": None if self.folded is None else self.folded.state_dict(),
        }

    def load_state_dict(self, state: StateDict, rebuild: Rebuild | None = None) -> None:
        """Resume; see ``Run``."""
        super().load_state_dict(state, rebuild)
        if state["folded"] is None:
            load_optimizer_state(self.trainer.optimizer, state["optimizer"])
        self.trainer.load_random_state(state["random"])
