"""Width multipliers: all layers narrowed by one factor."""

from __future__ import annotations

import numpy as np

from mcu.budget import Budget
from pruning.baselines.floor import below_floor
from pruning.engine.widths import uniform_widths
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.run import Steps


class UniformWidth(Compression):
    """Every layer narrowed by one factor, trained from scratch.

    Howard et al., "MobileNets", 2017; Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, who show why
    training from scratch is the right baseline. Hyperparameters: those of ``pruning.training.recipe``.
    """

    name = "uniform"
    last_phase = "training"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if one channel in every layer exceeds the budget."""
        return below_floor(problem, budget)

    def compress(self, job: Job) -> Steps:
        """Pick the largest factor that fits, before the first step."""
        if job.step == 0:
            narrow(job, uniform_widths(job.network.model, job.budget))
        yield from ()


def narrow(job: Job, widths: np.ndarray) -> None:
    """Keep the first channels of every group: in an untrained network all channels are equivalent."""
    job.network.keep([np.arange(width) for width in widths])
