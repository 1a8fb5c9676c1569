"""What can be refused before any work starts: missing data, networks without int8 kernels, budgets out of reach."""

from __future__ import annotations

from mcu.errors import InputError
from search_spaces.sweep import SweepConfig


def preflight(sweep: SweepConfig) -> None:
    """Load the task, build and trace every network, and hold every budget against the smallest it can be.

    Raises:
        InputError: naming the data, layer or budget that stands in the way.
    """
    # torch is loaded here and not with the module: the commands that only read the database do without it
    from mcu.resources import ResourceModel
    from mcu.trace import trace
    from pruning.landing import require_reachable
    from search_spaces.networks import build_network
    from search_spaces.tasks import load_task

    task = load_task(sweep.task)
    for choice in sweep.network.choices():
        network = build_network(choice, task.input_shape, len(task.classes), sweep.sweep.seed)
        model = ResourceModel(trace(network, task.input_shape).graph)
        for named in sweep.named_budgets():
            try:
                require_reachable(model, named.budget, f"network {choice.name!r}")
            except InputError as error:
                raise InputError(f"[budgets] {named.name}: {error}") from error
