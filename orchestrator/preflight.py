"""What can be refused before a sweep begins: missing data, networks that cannot be traced, hopeless budgets."""

from __future__ import annotations

from typing import Any

from mcu.errors import InputError
from mcu.resources import ResourceModel
from mcu.trace import trace
from pruning.landing import require_reachable
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task, describe_task, load_task


def check_sweep(sweep: SweepConfig) -> dict[str, Any]:
    """Load the task, trace every network and hold every budget against the smallest it can become.

    A budget is refused when no network of the sweep can meet it. Bounds that are held against the exported C
    program are left to the trials, because its size is known only once it is built.

    Returns:
        Facts about the task, to be kept with the study.

    Raises:
        InputError: one line that names what cannot be used.
    """
    task = load_task(sweep.task)
    facts = describe_task(sweep.task.name, task)
    models = {choice.name: _resources(choice, task) for choice in sweep.network.choices()}
    if sweep.budgets.runtime != "tflm":
        return facts
    for named in sweep.named_budgets():
        refusals: list[InputError] = []
        for name, model in models.items():
            try:
                require_reachable(model, named.budget, name)
            except InputError as error:
                refusals.append(error)
        if len(refusals) == len(models):
            raise InputError(f"budgets: {named.name}: {refusals[0]}")
    return facts


def _resources(choice: NetworkChoice, task: Task) -> ResourceModel:
    network = build_network(choice, task.input_shape, len(task.classes), seed=0)
    return ResourceModel(trace(network, task.input_shape).graph)
