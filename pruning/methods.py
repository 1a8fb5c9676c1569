"""The interface of compression methods, and the base class of the built-in ones. `pruning.catalogue` lists them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any, Protocol

from torch import fx

from mcu.budget import Budget
from pruning.catalogue import ENTRY_POINTS, find_method
from pruning.training.finish import finish, recover
from pruning.training.job import Job
from pruning.training.parent import begin
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.training.whole import by_whole


class Method(Protocol):
    """A method that makes a network meet a budget."""

    name: str

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Train within ``settings.epochs``, report after every epoch, and return an int8 model within the budget."""


class Compression:
    """Base of methods that compress during training: a method defines ``compress``; the rest of a job is shared.

    Attributes:
        last_phase: name, in the reports, of the phase after compression.
        heir_defaults: default hyperparameters of a job that starts from an ancestor's trained network.
    """

    name = ""
    last_phase = "fine-tuning"
    heir_defaults: Mapping[str, Any] = {}

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """The result without training if the budget is infeasible. Refuses hyperparameters that are not allowed."""
        return None

    def compress(self, job: Job) -> Generator[None, None, Infeasible | None]:
        """Request optimiser steps and change the network between them, until it is within the budget.

        It may be called on a job resumed from a checkpoint of any step.
        """
        raise NotImplementedError

    def rebuild(self, module: fx.GraphModule, notes: Mapping[str, Any]) -> fx.GraphModule:
        """The dense network with the layers of a checkpoint, by the checkpoint's notes; weights are arbitrary."""
        return module

    def conclude(self, job: Job, outcome: Outcome) -> Outcome:
        """The outcome to record, by the groups of the dense network; the last row tells all changes of structure."""
        problem, edits = job.problem, [list(edit) for stage in job.edits for edit in stage]
        if problem.ancestor is None and not edits:
            return outcome
        if edits and outcome.trajectory:
            *rows, last = outcome.trajectory
            outcome = replace(outcome, trajectory=[*rows, {**last, "edits": edits}])
        first, whole = (problem.constraints.trace(network).graph for network in (problem.start(), problem.network()))
        return by_whole(outcome, whole, (first, job.network.graph))

    def settings_for(self, problem: Problem, settings: Settings) -> Settings:
        """The settings, with the defaults of a job that has an ancestor."""
        if not problem.ancestor:
            return settings
        return replace(settings, hyperparameters={**self.heir_defaults, **settings.hyperparameters})

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Train and compress, recover, export; see ``Method``."""
        if refusal := self.refuse(problem, budget, settings):
            return refusal
        settings = self.settings_for(problem, settings)
        job = begin(problem, budget, settings, report, self.name, rebuild=self.rebuild)
        return job.drive(self._steps(job))

    def _steps(self, job: Job) -> Generator[None, None, Outcome | Infeasible]:
        if refusal := (yield from self.compress(job)):
            return refusal
        yield from recover(job, self.last_phase)
        outcome = yield from finish(job)
        return self.conclude(job, outcome)


def method(name: str) -> Method:
    """The method of this name.

    Raises:
        InputError: if there is none.
    """
    made: Method = EntryPoint(name, find_method(name).reference, ENTRY_POINTS).load()()
    return made
