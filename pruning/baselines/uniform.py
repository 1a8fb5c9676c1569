"""Width multipliers: the whole network narrowed by one factor."""

from __future__ import annotations

import numpy as np

from mcu.budget import Budget
from mcu.resource_model import ResourceModel
from pruning.baselines.floor import below_floor
from pruning.engine.widths import first_fit
from pruning.training.parent import begin
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.training.recipe import TRAINING
from pruning.training.run import Run


class UniformWidth:
    """Every layer narrowed by one factor, trained from scratch.

    Howard et al., "MobileNets", 2017; Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, on why training
    from scratch is the baseline that counts. Hyperparameters: those of ``pruning.training.recipe``.
    """

    name = "uniform"
    summary = "one width multiplier for all layers, trained from scratch"
    hyperparameters: tuple[str, ...] = TRAINING

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Pick the largest factor that fits, then train for all epochs."""
        if refusal := below_floor(problem, budget):
            return refusal
        run = begin(problem, budget, settings, report, self.name)
        if run.trainer.step == 0:
            narrow(run, uniform_widths(run.model, budget))
        run.recover("training")
        return run.finish()


def uniform_widths(model: ResourceModel, budget: Budget) -> np.ndarray:
    """Widths ``(groups,)`` of the network narrowed by the largest factor that fits; one channel each if none does."""

    def narrowed(compression: float) -> np.ndarray:
        return np.maximum(1, np.floor((1 - compression) * model.dense_widths + 1e-9)).astype(np.int64)

    widths = first_fit(narrowed, model.exact, budget)
    return np.ones_like(model.dense_widths) if widths is None else widths


def narrow(run: Run, widths: np.ndarray) -> None:
    """Keep the first channels of every group: in a network without training any are as good as others."""
    run.keep([np.arange(width) for width in widths])
