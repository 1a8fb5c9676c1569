"""Budgets that are out of reach, found before any training."""

from __future__ import annotations

from mcu.budget import Budget
from mcu.resources import ResourceModel
from mcu.trace import trace
from pruning.landing import smallest
from pruning.problem import Infeasible, Problem


def dense_model(problem: Problem) -> ResourceModel:
    """Resources of the problem's network as a function of its widths."""
    return ResourceModel(trace(problem.network(), problem.input_shape).graph, problem.runtime)


def below_floor(problem: Problem, budget: Budget) -> Infeasible | None:
    """The answer of every method that narrows layers, where one channel in each is still too much."""
    floor = smallest(dense_model(problem))
    return None if budget.admits(floor) else Infeasible("over budget even with one channel in every layer", floor)
