"""How long a sweep will take, from a few training steps of each of its networks on this machine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestrator.planning.plan import Plan
from orchestrator.planning.planned_trial import PlannedTrial
from orchestrator.planning.preflight import refusals
from orchestrator.worker.trial import problem_of, settings_of
from pruning.training.problem import DivergedError
from pruning.training.steps import Trainer
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import load_task

WARM_STEPS = 2
STEPS = 4
MOST_SECONDS = 2.0
"""For the steps of one network; a slow one gets fewer."""


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take.

    Attributes:
        step_seconds: for an optimiser step of the unpruned network, by network.
        trial_seconds: for all the epochs of a trial, by network; jobs that shrink as they train take less.
        trials: planned, by network.
        out_of_reach: one line for each budget that some network cannot meet.
    """

    step_seconds: dict[str, float]
    trial_seconds: dict[str, float]
    trials: dict[str, int]
    out_of_reach: tuple[str, ...]

    def sweep_seconds(self, workers: int) -> float:
        """For all trials, so many at a time."""
        return sum(self.trial_seconds[name] * count for name, count in self.trials.items()) / workers


def estimate_sweep(sweep: SweepConfig) -> Estimate:
    """Train every network of a sweep for a few steps on this process's threads.

    Raises:
        InputError: as loading the task and building the networks do.
    """
    plan, task = Plan(sweep), load_task(sweep.task)
    firsts: dict[str, PlannedTrial] = {}
    for trial in plan.trials:
        firsts.setdefault(trial.network.name, trial)
    step_seconds = {name: _step_seconds(plan, trial) for name, trial in firsts.items()}
    batch = min(sweep.training.batch_size, len(task.x_train))
    steps = sweep.training.epochs * (len(task.x_train) // batch)
    lines = [f"budget {budget}: {error}" for budget, errors in refusals(sweep, task).items() for error in errors]
    return Estimate(
        step_seconds,
        {name: seconds * steps for name, seconds in step_seconds.items()},
        dict(Counter(trial.network.name for trial in plan.trials)),
        tuple(lines),
    )


def _step_seconds(plan: Plan, trial: PlannedTrial) -> float:
    task = load_task(plan.sweep.task)
    spec = plan.spec(trial, {})
    batch = min(spec.training.batch_size, len(task.x_train))
    some = np.arange(min(len(task.x_train), batch * (WARM_STEPS + STEPS)))
    problem = problem_of(spec, task)
    problem = replace(problem, x_train=task.x_train[some], y_train=task.y_train[some], class_weights=0.0)
    trainer = Trainer(problem.network(), problem, settings_of(spec, Path()))
    times: list[float] = []
    begun = before = time.perf_counter()
    try:
        for step in range(min(WARM_STEPS + STEPS, trainer.steps)):
            trainer.take_step(step)
            now = time.perf_counter()
            times.append(now - before)
            before = now
            if now - begun > MOST_SECONDS and len(times) > 1:
                break
    except DivergedError:
        times.append(time.perf_counter() - before)
    return float(np.median(times[WARM_STEPS:] or times))
