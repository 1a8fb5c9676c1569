"""Time estimate of a sweep, from a few training steps of each of its networks on this machine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestrator.planning.inputs import Inputs
from orchestrator.planning.plan import Plan
from orchestrator.planning.planned_trial import PlannedTrial
from orchestrator.planning.preflight import Reaches, input_tasks, plan_of, reaches_of, refusals
from orchestrator.worker.trial import problem_of, settings_of
from pruning.training.problem import DivergedError
from pruning.training.steps import Trainer
from search_spaces.choices import NetworkChoice
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task

WARM_STEPS = 2
STEPS = 4
MOST_TIMED = 3
"""Inputs on which a network is timed, about; the mean counts."""

MOST_SECONDS = 2.0
"""For the steps of one network; a slow one gets fewer."""


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a sweep.

    Attributes:
        step_seconds: of an optimiser step of the unpruned network, by network.
        trial_seconds: of all epochs of a trial, by network; jobs that shrink during training take less.
        trials: planned, by network.
        jobs: total length of all planned trials in units of a full job, by network.
        longest: longest chain of a lineage in full jobs that must run in sequence, by network.
        out_of_reach: one line for each budget that a network cannot meet.
    """

    step_seconds: dict[str, float]
    trial_seconds: dict[str, float]
    trials: dict[str, int]
    jobs: dict[str, float]
    longest: dict[str, float]
    out_of_reach: tuple[str, ...]

    def sweep_seconds(self, workers: int) -> float:
        """Time of all trials with this many workers; at least the time of the longest chain of a lineage."""
        work = sum(self.trial_seconds[name] * jobs for name, jobs in self.jobs.items())
        chain = max(self.trial_seconds[name] * jobs for name, jobs in self.longest.items())
        return max(work / workers, chain)


def estimate_sweep(sweep: SweepConfig) -> Estimate:
    """Train every network of a sweep for a few steps with this process's threads.

    Raises:
        InputError: as loading the task and building the networks do.
    """
    tasks = input_tasks(sweep)
    reaches = reaches_of(sweep, tasks)
    plan = plan_of(sweep, reaches)
    task = next(iter(tasks.values()))
    firsts: dict[str, PlannedTrial] = {}
    for trial in plan.trials:
        firsts.setdefault(trial.network.name, trial)
    timed = list(tasks.items())[:: max(1, len(tasks) // MOST_TIMED)]
    step_seconds = {
        name: float(np.mean([_step_seconds(plan, trial, inputs, mine) for inputs, mine in timed]))
        for name, trial in firsts.items()
    }
    batch = min(sweep.training.batch_size, len(task.x_train))
    steps = sweep.training.epochs * (len(task.x_train) // batch)
    lengths = {name: _lengths(plan, reaches, trial.network) for name, trial in firsts.items()}
    lines = [f"budget {budget}: {error}" for budget, errors in refusals(sweep, reaches).items() for error in errors]
    return Estimate(
        step_seconds,
        {name: seconds * steps for name, seconds in step_seconds.items()},
        dict(Counter(trial.network.name for trial in plan.trials)),
        {name: sum(found.values()) for name, found in lengths.items()},
        {name: _longest(plan, found) for name, found in lengths.items()},
        tuple(lines),
    )


def _lengths(plan: Plan, reaches: Reaches, network: NetworkChoice) -> dict[int, float]:
    """How long each trial of a network trains, in whole jobs, by number, if every one begins with its first choice."""
    mine = [trial for trial in plan.trials if trial.network == network]
    dense = {inputs: reach.dense for choice, inputs, reach in reaches if choice == network}
    usual = next(iter(dense.values()))  # where options of the task are sampled, trials are planned without
    epochs = {trial.number: plan.expected_epochs(trial, dense.get(trial.inputs, usual)) for trial in mine}
    return {number: each / plan.sweep.training.epochs for number, each in epochs.items()}


def _longest(plan: Plan, lengths: dict[int, float]) -> float:
    """The longest way from a trial up to the first ancestor."""
    ways: dict[int, float] = {}

    def way(number: int) -> float:
        if number not in ways:
            ancestors = plan.lineage.candidates(plan.trials[number])[:1]
            ways[number] = lengths[number] + sum(way(ancestor) for ancestor in ancestors)
        return ways[number]

    return max(way(number) for number in lengths)


def _step_seconds(plan: Plan, trial: PlannedTrial, inputs: Inputs, task: Task) -> float:
    spec = plan.spec(replace(trial, inputs=inputs), {})
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
