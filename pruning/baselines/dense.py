"""The reference: no compression but int8."""

from __future__ import annotations

from mcu.budget import Budget
from pruning.baselines.floor import dense_model
from pruning.training.parent import begin
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.training.recipe import TRAINING


class DenseNetwork:
    """The whole network, quantised to int8 as every other model is, and not compressed further.

    It has no knob: a budget either admits it or does not. Hyperparameters: those of ``pruning.training.recipe``.
    """

    name = "dense-ptq"
    summary = "the whole network in int8: a reference, infeasible where it does not fit"
    hyperparameters: tuple[str, ...] = TRAINING

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Train for all epochs, if the dense network fits."""
        model = dense_model(problem)
        dense = model.exact(model.dense_widths)
        if not budget.admits(dense):
            return Infeasible("the dense network is over the budget and nothing here makes it smaller", dense)
        run = begin(problem, budget, settings, report, self.name)
        run.recover("training")
        return run.finish()
