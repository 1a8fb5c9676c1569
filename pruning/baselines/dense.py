"""The reference: int8 quantisation without pruning."""

from __future__ import annotations

from mcu.budget import Budget
from pruning.baselines.floor import dense_model
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.run import Steps


class DenseNetwork(Compression):
    """The unpruned network, quantised to int8 as every other model.

    It has no compression parameter: it fits a budget or it does not. Hyperparameters: those of
    ``pruning.training.recipe``.
    """

    name = "dense-ptq"
    last_phase = "training"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if the unpruned network exceeds the budget."""
        model = dense_model(problem)
        dense = model.exact(model.dense_widths)
        if budget.admits(dense):
            return None
        return Infeasible("the dense network exceeds the budget, and this method does not compress it", dense)

    def compress(self, job: Job) -> Steps:
        """No compression."""
        yield from ()
