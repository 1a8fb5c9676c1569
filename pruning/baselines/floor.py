"""Resources of networks, and a check for infeasible budgets before training."""

from __future__ import annotations

from torch import nn

from mcu.budget import Budget, Resources
from mcu.resource_model import ResourceModel
from pruning.engine.landing import smallest
from pruning.training.problem import Infeasible, Problem


def dense_model(problem: Problem) -> ResourceModel:
    """Resources of the problem's network as a function of its widths."""
    return problem.constraints.model(problem.network())


def used_by(network: nn.Module, problem: Problem) -> Resources:
    """Resources of a network at its current widths."""
    model = problem.constraints.model(network)
    return model.exact(model.dense_widths)


def below_floor(problem: Problem, budget: Budget) -> Infeasible | None:
    """The result of every method that narrows layers if one channel in each layer exceeds the budget."""
    floor = smallest(dense_model(problem))
    return None if budget.admits(floor) else Infeasible("over budget even with one channel in every layer", floor)
