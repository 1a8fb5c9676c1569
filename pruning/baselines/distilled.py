"""A narrow network trained with knowledge distillation from the dense one."""

from __future__ import annotations

from dataclasses import replace

from mcu.budget import Budget
from pruning.baselines.uniform import UniformWidth
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings

TEACHER_FRACTION = 0.4
"""Fraction of all epochs that trains the teacher, unless ``parent_epochs`` says how many."""

IMITATION = 0.6
"""Weight of the teacher's logits in the loss, unless ``distillation`` says so."""


class DistilledUniform(UniformWidth):
    """The uniform width multiplier, distilled from the dense network (Hinton et al., "Distilling the Knowledge", 2015).

    The teacher's epochs count as epochs of this job: the student gets the rest. Hyperparameters: those of
    ``pruning.training.recipe``, of which ``parent_epochs`` and ``distillation`` have defaults of their own here.
    """

    name = "distilled-uniform"

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Train the dense teacher, then the largest student that fits."""
        teacher = max(1, round(TEACHER_FRACTION * settings.epochs))
        own = {"parent_epochs": min(teacher, settings.epochs - 1), "distillation": IMITATION}
        if settings.epochs == 1:  # nothing to share between two networks
            own = {}
        chosen = {**own, **settings.hyperparameters}
        return super().run(problem, budget, replace(settings, hyperparameters=chosen), report)
