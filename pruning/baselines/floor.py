"""What networks use, and budgets that are out of reach, before any training."""

from __future__ import annotations

from torch import nn

from mcu.budget import Budget, Resources
from mcu.graph.trace import trace
from mcu.resource_model import ResourceModel
from pruning.engine.landing import smallest
from pruning.training.problem import Infeasible, Problem


def dense_model(problem: Problem) -> ResourceModel:
    """Resources of the problem's network as a function of its widths."""
    return _model(problem.network(), problem)


def used_by(network: nn.Module, problem: Problem) -> Resources:
    """What a network would use as it is."""
    model = _model(network, problem)
    return model.exact(model.dense_widths)


def _model(network: nn.Module, problem: Problem) -> ResourceModel:
    return ResourceModel(trace(network, problem.input_shape).graph, problem.runtime)


def below_floor(problem: Problem, budget: Budget) -> Infeasible | None:
    """The answer of every method that narrows layers, where one channel in each is still too much."""
    floor = smallest(dense_model(problem))
    return None if budget.admits(floor) else Infeasible("over budget even with one channel in every layer", floor)
