"""The methods a sweep can name: ours, and any that other packages register under ``mcusweep.methods``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Protocol

from mcu.budget import Budget
from mcu.errors import InputError
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings


class Method(Protocol):
    """A way to make a network meet a budget."""

    name: str
    summary: str
    hyperparameters: tuple[str, ...]

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Train within ``settings.epochs``, report after every epoch, and return an int8 model within the budget."""


def method(name: str) -> Method:
    """The method of this name.

    Raises:
        InputError: if there is none.
    """
    found = {point.name: point for point in entry_points(group="mcusweep.methods")}
    if name not in found:
        raise InputError(f"[methods] names: unknown method {name!r}; allowed are {', '.join(sorted(found))}")
    return found[name].load()()
