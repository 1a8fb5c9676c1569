"""Checks before a sweep starts: missing data, networks that cannot be traced, infeasible budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.terms import RuntimeName
from mcu.tracing.trace import Traced
from orchestrator.planning.inputs import Inputs, combinations, input_space, network_key, told, with_inputs
from orchestrator.planning.objective import check_objective
from orchestrator.planning.plan import LEAST, Plan, least_of
from pruning.catalogue import find_method
from pruning.engine.network import Constraints
from pruning.engine.structure import Reach
from pruning.training.recipe import check_parent, check_phases, check_value
from pruning.training.rehearsal import rehearse, require_end
from search_spaces.choices import NetworkChoice, Scalar, TrainingChoice
from search_spaces.factories import load_reference
from search_spaces.hyperparameters import Choices, Hyperparameter, Range
from search_spaces.networks import build_network
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task, describe_task, load_task

Reaches = Sequence[tuple[NetworkChoice, Inputs, Reach]]


def check_sweep(sweep: SweepConfig) -> dict[str, Any]:
    """Load the task, trace every network, and compare every budget with the smallest reachable resources.

    A budget is refused when no network of the sweep can meet it, at half its resolution where a method tries that.
    Bounds on the exported C program are checked by the trials, because its size is known only after it is built.

    Returns:
        Facts about the task, stored with the study.

    Raises:
        InputError: one line that names the invalid input.
    """
    check_recipe(sweep)
    training = sweep.training
    if training.loop is not None:
        load_reference(training.loop, training.base)
    tasks = input_tasks(sweep)
    task = next(iter(tasks.values()))
    check_objective(sweep, task)
    reaches = reaches_of(sweep, tasks)
    facts = describe_task(sweep.task.name, task) | least_use(sweep, reaches)
    refused = refusals(sweep, reaches)
    for name, errors in refused.items():
        if len(errors) == len(sweep.network.choices()) * len(tasks):
            raise InputError(f"budgets: {name}: {errors[0]}")
    return facts


def input_tasks(sweep: SweepConfig) -> dict[Inputs, Task]:
    """The task with every combination of its searched options.

    Raises:
        InputError: if a combination cannot be loaded, or has other samples than the first, which could not be compared.
    """
    found: dict[Inputs, Task] = {}
    for inputs in combinations(input_space(sweep)):
        task = found[inputs] = load_task(with_inputs(sweep.task, inputs))
        first = next(iter(found.values()))
        for split, _, y in task.splits():
            if not np.array_equal(y, getattr(first, f"y_{split}")):
                raise InputError(
                    f"hyperparameters.{told(inputs)}: has other {split} samples than {told(next(iter(found)))}: some "
                    "are equal, and so left out, with one of them"
                )
    return found


def reaches_of(sweep: SweepConfig, tasks: Mapping[Inputs, Task]) -> Reaches:
    """What each network of a sweep can shrink to, on each input.

    Raises:
        InputError: a network cannot be built, traced or trained.
    """
    halves = any(_halves(sweep, method) for method in sweep.methods.names)
    return [
        (choice, inputs, _reach(choice, task, inputs, sweep.training, halves))
        for choice in sweep.network.choices()
        for inputs, task in tasks.items()
    ]


def least_use(sweep: SweepConfig, reaches: Reaches) -> dict[str, Any]:
    """The fact `Plan.least` comes from; none without a lineage, or where bounds are those of firmware."""
    if not sweep.lineage.enabled or sweep.budgets.runtime is not RuntimeName.TFLM:
        return {}
    return {LEAST: {network_key(choice, inputs): asdict(reach.narrowest) for choice, inputs, reach in reaches}}


def plan_of(sweep: SweepConfig, reaches: Reaches) -> Plan:
    """The plan of a sweep that is not a study yet, as the study's will be."""
    return Plan(sweep, least_of(least_use(sweep, reaches)))


def refusals(sweep: SweepConfig, reaches: Reaches) -> dict[str, list[InputError]]:
    """By label of budget, why networks cannot meet it; only budgets that some network on some input cannot meet."""
    found: dict[str, list[InputError]] = {}
    if sweep.budgets.runtime is not RuntimeName.TFLM:
        return found
    for budget in sweep.planned_budgets():
        for choice, inputs, reach in reaches:
            try:
                reach.require(budget, f"{choice.name} ({told(inputs)})" if inputs else choice.name)
            except InputError as error:
                found.setdefault(budget.label, []).append(error)
    return found


def check_recipe(sweep: SweepConfig) -> None:
    """Refuse training hyperparameters that are invalid at either end of their ranges.

    Raises:
        InputError: naming the hyperparameter, its value and what is allowed.
    """
    most: dict[str, Scalar] = {}
    inputs = input_space(sweep)
    for name, given in sweep.hyperparameters.items():
        if name in inputs:
            continue
        values = _values(given)
        for value in values:
            check_value(name, value, sweep.training.epochs)
        most[name] = values[-1]
    check_phases(float(most.get("warmup", 0)), float(most.get("pruning", 0)))
    if sweep.lineage.enabled:
        return  # the lineage's parent is the teacher
    starts = _values(sweep.hyperparameters.get("start", "scratch"))
    start = "parent" if "parent" in starts else "scratch"
    check_parent(float(most.get("parent_epochs", 0)), float(most.get("distillation", 0)), start)


def _values(given: Hyperparameter) -> list[Scalar]:
    if isinstance(given, Range):
        return [given.low, given.high]
    if isinstance(given, Choices):
        return sorted(given.choices, key=lambda value: (isinstance(value, str), value))
    return [given]


def _halves(sweep: SweepConfig, method: str) -> bool:
    """Whether jobs of a method may halve the resolution of a network."""
    takes = find_method(method).hyperparameters or ()
    wanted = True in _values(sweep.hyperparameters.get("halving", True))
    return "halving" in takes and wanted and sweep.training.loop is None


def _reach(choice: NetworkChoice, task: Task, inputs: Inputs, training: TrainingChoice, halves: bool) -> Reach:
    """The least that a trial's network can use."""
    try:
        traced, constraints = traced_network(choice, task)
        require_end(traced, task.kind, training.loss is not None, training.loop is not None)
        rehearse(traced, task.input_shape)
        return Reach(traced, constraints, halves)
    except InputError as error:
        if not inputs:
            raise
        raise InputError(f"hyperparameters.{told(inputs)}: {error}") from None


def traced_network(choice: NetworkChoice, task: Task) -> tuple[Traced, Constraints]:
    """The network that a trial begins with, on a task.

    Raises:
        InputError: if it cannot be built or traced, or has no layer that should be frozen.
    """
    network = build_network(choice, task.input_shape, task.outputs, 0, task.cells)
    constraints = Constraints(task.input_shape, choice.frozen, choice.round_to)
    return constraints.trace(network), constraints
