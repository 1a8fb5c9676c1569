"""Evolutionary search of widths inside the budget, at the compute of one training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.resource_model import ResourceModel
from pruning.baselines.floor import below_floor
from pruning.baselines.uniform import narrow
from pruning.engine.landing import land
from pruning.engine.widths import uniform_widths
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.run import Steps

POPULATION = 5
"""Candidates alive at a time; the oldest makes room for the newest."""

SAMPLE = 3
"""Candidates drawn from the population, of which the best becomes a parent."""

SPREAD = 0.4
"""Standard deviation of a mutation, in the logarithm of a width."""


@dataclass(frozen=True)
class Search:
    """How steps are divided: each of the ``candidates`` gets ``steps``; the best widths get the rest, from scratch."""

    candidates: int
    steps: int

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], float_steps: int) -> Search:
        """By the hyperparameters ``candidates`` and ``search`` (fraction of the float steps).

        Raises:
            InputError: for values that are not allowed.
        """
        candidates = int(hyperparameters.get("candidates", 12))
        fraction = float(hyperparameters.get("search", 0.4))
        if candidates < 1:
            raise InputError(f"hyperparameters.candidates = {candidates}: allowed is 1 or more")
        if not 0 <= fraction < 1:
            raise InputError(f"hyperparameters.search = {fraction}: allowed is 0 to less than 1")
        candidates = min(candidates, int(fraction * float_steps))
        return cls(candidates, int(fraction * float_steps) // max(1, candidates))


class Evolution(Compression):
    """Constrained aging evolution over widths (Liberis et al., uNAS, EuroMLSys 2021; Real et al., AAAI 2019).

    Every candidate is projected into the budget and grown to its bounds before it is trained, so none is wasted; the
    first is the uniform width multiplier. For a fair comparison, all candidates and the final training together take
    the steps of one job; uNAS itself trains hundreds of networks. Hyperparameters: those of
    ``pruning.training.recipe``, ``candidates`` and ``search`` (fraction of the float steps).
    """

    name = "evolution"

    last_phase = "training"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if one channel in every layer exceeds the budget."""
        return below_floor(problem, budget)

    def compress(self, job: Job) -> Steps:
        """Search widths with short trainings, then train the best ones from scratch."""
        search = Search.of(job.hyperparameters, job.float_steps)
        history: list[dict[str, list[int] | float]] = job.notes.setdefault("history", [])
        while len(history) < search.candidates:
            start = len(history) * search.steps
            widths = _candidate(job, len(history), history)
            self._stage(job, widths, start, start + search.steps)
            yield from job.train("search", start + search.steps)
            history.append({"widths": widths.tolist(), "val_accuracy": job.trainer.val_accuracy()})
        best = (
            max(history, key=lambda entry: entry["val_accuracy"])["widths"] if history else _candidate(job, 0, history)
        )
        self._stage(job, np.array(best), search.candidates * search.steps, job.float_steps)

    def _stage(self, job: Job, widths: np.ndarray, start: int, end: int) -> None:
        """Train these widths from scratch in steps ``start`` to ``end``, with a learning rate that falls once."""
        job.trainer.span = (start, end)
        if job.step == start:
            job.replace(job.problem.constraints.trace(job.problem.network()).module)
            narrow(job, widths)


def _candidate(job: Job, index: int, history: list[dict[str, list[int] | float]]) -> np.ndarray:
    """Widths of the next candidate; depends on the seed and on the history alone."""
    generator = np.random.default_rng([job.settings.seed, index])
    uniform = uniform_widths(job.network.model, job.budget)
    if index == 0:
        return uniform
    if index < POPULATION:
        return _within(job.network.model, job.budget, uniform * np.exp(generator.normal(0, SPREAD, len(uniform))))
    alive = history[-POPULATION:]
    drawn = generator.choice(len(alive), min(SAMPLE, len(alive)), replace=False)
    parent = max((alive[at] for at in drawn), key=lambda entry: entry["val_accuracy"])
    return _within(job.network.model, job.budget, _mutated(np.array(parent["widths"]), generator))


def _mutated(widths: np.ndarray, generator: Generator) -> np.ndarray:
    """About a third of the widths, one at least, multiplied by a random factor."""
    chosen = generator.random(len(widths)) < 1 / 3
    chosen[generator.integers(len(widths))] = True
    return widths * np.exp(np.where(chosen, generator.normal(0, SPREAD, len(widths)), 0.0))


def _within(model: ResourceModel, budget: Budget, widths: np.ndarray) -> np.ndarray:
    """The nearest widths within the budget, grown until no channel can be added."""
    alike = [np.ones(size) for size in model.dense_widths]
    return land(model, budget, widths, model.dense_widths, alike)
