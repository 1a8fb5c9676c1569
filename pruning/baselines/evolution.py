"""Evolution of widths inside the budget, at the compute of one training run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.graph.trace import trace
from mcu.resource_model import ResourceModel
from pruning.baselines.floor import below_floor
from pruning.baselines.uniform import narrow, uniform_widths
from pruning.engine.landing import land
from pruning.training.parent import begin
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.training.recipe import TRAINING
from pruning.training.run import Run

POPULATION = 5
"""Candidates alive at a time; the oldest makes room for the newest."""

SAMPLE = 3
"""Candidates drawn from the population, of which the best becomes a parent."""

SPREAD = 0.4
"""Standard deviation of a mutation, in the logarithm of a width."""


@dataclass(frozen=True)
class Search:
    """How the steps are shared: ``candidates`` get ``steps`` each, the best widths what is left, from scratch."""

    candidates: int
    steps: int

    @classmethod
    def of(cls, settings: Settings, float_steps: int) -> Search:
        """By the hyperparameters ``candidates`` and ``search`` (part of the float steps).

        Raises:
            InputError: for values that are not allowed.
        """
        candidates = int(settings.hyperparameters.get("candidates", 12))
        part = float(settings.hyperparameters.get("search", 0.4))
        if candidates < 1:
            raise InputError(f"hyperparameters.candidates = {candidates}: allowed is 1 or more")
        if not 0 <= part < 1:
            raise InputError(f"hyperparameters.search = {part}: allowed is 0 to less than 1")
        candidates = min(candidates, int(part * float_steps))
        return cls(candidates, int(part * float_steps) // max(1, candidates))


class Evolution:
    """Constrained aging evolution over widths (Liberis et al., uNAS, EuroMLSys 2021; Real et al., AAAI 2019).

    Every candidate is projected into the budget and grown to its bounds before it is trained, so none is wasted; the
    first is the uniform width multiplier. All candidates together and the final training take the steps of one job,
    which is what makes it comparable: uNAS itself trains hundreds of networks.
    Hyperparameters: those of ``pruning.training.recipe``, ``candidates`` and ``search`` (part of the float steps).
    """

    name = "evolution"
    summary = "aging evolution over widths inside the budget (uNAS-style), at the compute of one job"
    hyperparameters: tuple[str, ...] = (*TRAINING, "candidates", "search")

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Search widths with short trainings, then train the best ones from scratch."""
        if refusal := below_floor(problem, budget):
            return refusal
        run = begin(problem, budget, settings, report, self.name)
        search = Search.of(settings, run.trainer.float_steps)
        history: list[dict[str, list[int] | float]] = run.notes.setdefault("history", [])
        while len(history) < search.candidates:
            start = len(history) * search.steps
            widths = _candidate(run, len(history), history)
            self._stage(run, widths, start, start + search.steps)
            for _ in run.train("search", start + search.steps):
                pass
            history.append({"widths": widths.tolist(), "val_accuracy": run.trainer.val_accuracy()})
        best = (
            max(history, key=lambda entry: entry["val_accuracy"])["widths"] if history else _candidate(run, 0, history)
        )
        self._stage(run, np.array(best), search.candidates * search.steps, run.trainer.float_steps)
        run.recover("training")
        return run.finish()

    def _stage(self, run: Run, widths: np.ndarray, start: int, end: int) -> None:
        """Train these widths from scratch in steps ``start`` to ``end``, with a learning rate that falls once."""
        run.trainer.span = (start, end)
        if run.trainer.step == start:
            run.replace(trace(run.problem.network(), run.problem.input_shape).module)
            narrow(run, widths)


def _candidate(run: Run, index: int, history: list[dict[str, list[int] | float]]) -> np.ndarray:
    """Widths of the next candidate; depends on the seed and on the history alone."""
    generator = np.random.default_rng([run.settings.seed, index])
    uniform = uniform_widths(run.model, run.budget)
    if index == 0:
        return uniform
    if index < POPULATION:
        return _within(run.model, run.budget, uniform * np.exp(generator.normal(0, SPREAD, len(uniform))))
    alive = history[-POPULATION:]
    drawn = generator.choice(len(alive), min(SAMPLE, len(alive)), replace=False)
    parent = max((alive[at] for at in drawn), key=lambda entry: entry["val_accuracy"])
    return _within(run.model, run.budget, _mutated(np.array(parent["widths"]), generator))


def _mutated(widths: np.ndarray, generator: Generator) -> np.ndarray:
    """About a third of the widths, one at least, multiplied by a random factor."""
    chosen = generator.random(len(widths)) < 1 / 3
    chosen[generator.integers(len(widths))] = True
    return widths * np.exp(np.where(chosen, generator.normal(0, SPREAD, len(widths)), 0.0))


def _within(model: ResourceModel, budget: Budget, widths: np.ndarray) -> np.ndarray:
    """The nearest widths within the budget, grown until no channel can be added."""
    alike = [np.ones(size) for size in model.dense_widths]
    return land(model, budget, widths, model.dense_widths, alike)
