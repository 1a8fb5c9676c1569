"""Options of the task among a sweep's hyperparameters: the front end of sound, the resolution of images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import product

from mcu.errors import InputError
from search_spaces.choices import NetworkChoice, Scalar, TaskChoice
from search_spaces.hyperparameters import Choices, Hyperparameter, Range
from search_spaces.sweep import SweepConfig
from search_spaces.tasks.registry import searchable

MOST = 64
"""Combinations of options in one sweep: every one is loaded and checked before it begins."""

Inputs = tuple[tuple[str, Scalar], ...]
"""Values of the searched options of a task, by name; no values where none is searched."""


def input_space(sweep: SweepConfig) -> dict[str, Hyperparameter]:
    """The hyperparameters of a sweep that are options of its task."""
    known = searchable(sweep.task.name)
    return {name: given for name, given in sweep.hyperparameters.items() if name in known}


def combinations(space: Mapping[str, Hyperparameter]) -> tuple[Inputs, ...]:
    """Every combination of the searched options; one without values if there are none.

    Raises:
        InputError: for an option without a list of values, or too many combinations.
    """
    values = {name: _values(name, given) for name, given in space.items()}
    count = math.prod(map(len, values.values()))
    if count > MOST:
        raise InputError(
            f"hyperparameters.{', '.join(values)}: {count} combinations of task options: allowed are {MOST}, because "
            "each is loaded and checked before the sweep begins"
        )
    return tuple(tuple(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


def _values(name: str, given: Hyperparameter) -> list[Scalar]:
    if isinstance(given, Choices):
        return list(given.choices)
    if isinstance(given, Range) and isinstance(given.low, int) and isinstance(given.high, int) and not given.log:
        return list(range(given.low, given.high + 1, int(given.step or 1)))
    if isinstance(given, Range):
        raise InputError(
            f"hyperparameters.{name}: is an option of the task: allowed are {{choices = [...]}} or whole numbers "
            "{low, high, step}"
        )
    raise InputError(f"hyperparameters.{name} = {given!r}: is an option of the task: a fixed one goes to task.options")


def network_key(network: NetworkChoice, inputs: Inputs) -> str:
    """One text for a network on a task with these options."""
    return f"{network.model_dump_json()} {json.dumps(inputs)}"


def with_inputs(task: TaskChoice, inputs: Inputs) -> TaskChoice:
    """The task with searched options."""
    return task.model_copy(update={"searched": dict(inputs)}) if inputs else task


def without_inputs(task: TaskChoice) -> TaskChoice:
    """The task of the sweep file."""
    return task.model_copy(update={"searched": {}})


def told(inputs: Inputs) -> str:
    """The options in words, for messages."""
    return ", ".join(f"{name} = {value}" for name, value in inputs)
