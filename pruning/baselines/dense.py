"""The reference: no compression but int8."""

from __future__ import annotations

from mcu.budget import Budget
from pruning.baselines.floor import dense_model
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.run import Steps


class DenseNetwork(Compression):
    """The whole network, quantised to int8 as every other model is, and not compressed further.

    It has no knob: a budget either admits it or does not. Hyperparameters: those of ``pruning.training.recipe``.
    """

    name = "dense-ptq"
    last_phase = "training"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Nothing here makes a network smaller."""
        model = dense_model(problem)
        dense = model.exact(model.dense_widths)
        if budget.admits(dense):
            return None
        return Infeasible("the dense network is over the budget and nothing here makes it smaller", dense)

    def compress(self, job: Job) -> Steps:
        """Nothing."""
        yield from ()
