"""The differentiable pruning job: one training run that ends inside the budget.

After Liberis & Lane, "Differentiable Neural Network Pruning to Enable Smart Applications on Microcontrollers"
(IMWUT 2022): resources are differentiable functions of layer widths and the task loss decides which widths to
give up. The formulation (rank gates, budgets as constraints, landing on exact bytes) is ours: docs/method.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mcu.budget import Budget, Resources
from mcu.resources import ResourceModel
from pruning import gates
from pruning.controller import WidthController
from pruning.landing import land, require_reachable
from pruning.parent import begin
from pruning.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.recipe import TRAINING
from pruning.run import Run
from pruning.widening import even_widths

CHECKS = 12
"""How often in the pruning phase the smooth resources are calibrated and shut channels removed for real."""

RERANK_EVERY = 10
"""Steps between re-sorting the channels by importance."""

LONGEST_PRUNING = 0.35
FAR = 8.0
SHORTEST_SHARE = 0.25
"""Pruning takes this part of the float steps when a resource must shrink ``FAR`` times or more; a share of it else."""

WATCH_STEPS = 50
"""Steps at the end of the warm-up during which importances are learned with all gates open."""


@dataclass(frozen=True)
class Phases:
    """Steps at which the phases end: dense warm-up (watched at its end), then pruning; recovery takes the rest."""

    unwatched: int
    warm_up: int
    pruning: int

    @classmethod
    def of(cls, settings: Settings, steps: int, compression: float) -> Phases:
        """Phases of a job of ``steps`` steps.

        Their parts are the hyperparameters ``warmup`` and ``pruning``. By default pruning takes longer the further
        the widths have to go: proportionally to the logarithm of the ``compression``, up to ``FAR``.
        """
        distance = min(1.0, math.log(max(1.0, compression)) / math.log(FAR))
        default = LONGEST_PRUNING * max(SHORTEST_SHARE, distance)
        warm_up = max(1, round(float(settings.hyperparameters.get("warmup", 0.1)) * steps))
        pruning = max(1, round(float(settings.hyperparameters.get("pruning", default)) * steps))
        return cls(max(0, warm_up - WATCH_STEPS), warm_up, warm_up + pruning)


def compression(dense: Resources, budget: Budget) -> float:
    """How many times less than the dense network the tightest bound allows; at least 1."""
    return max([1.0, *(getattr(dense, name) / bound for name, bound in budget.bounds().items())])


class DifferentiablePruning:
    """Prunes while training until every bound holds on exact bytes.

    Hyperparameters: those of ``pruning.recipe``, ``warmup`` and ``pruning`` (parts of the float steps).

    Attributes:
        controller: drives the widths.
        shrinking: whether shut channels are removed during pruning, not only at its end.
        growing: whether landing gives back channels while the budget has room for them.
    """

    controller: type[WidthController] = WidthController
    shrinking = True
    growing = True

    name = "differentiable"
    summary = "differentiable structured pruning under budgets, while training"
    hyperparameters = (*TRAINING, "warmup", "pruning")

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Warm up, prune, land, recover, export.

        Raises:
            UnreachableBudgetError: before training, if no widths can meet the budget.
        """
        run = begin(problem, budget, settings, report, self.name)
        require_reachable(run.model, budget)
        phases = Phases.of(settings, run.trainer.float_steps, compression(run.dense, budget))
        if not budget.admits(run.dense) and run.trainer.step <= phases.pruning:
            bank = gates.attach(run.module, run.graph)
            run.part("bank", bank)
            self._warm_up(run, bank, phases)
            controller = self._prune(run, bank, phases)
            gates.detach(run.module)
            run.parts.clear()
            self._land(run, bank, controller)
        run.recover("recovery")
        return run.finish()

    def priced(self, model: ResourceModel, budget: Budget) -> Budget:
        """The bounds that training sees; landing always meets the whole budget."""
        return budget

    def rank(self, run: Run, bank: gates.GateBank) -> None:
        """Order the channels of every group by what they are worth."""
        bank.rerank()

    def _warm_up(self, run: Run, bank: gates.GateBank, phases: Phases) -> None:
        """Train dense; towards the end, learn which channels matter."""
        for _ in run.train("warm-up", phases.unwatched):
            pass
        for _ in run.train("warm-up", phases.warm_up, before=bank.watch):
            bank.learn_importance()
        if run.trainer.step == phases.warm_up:
            self.rank(run, bank)

    def _prune(self, run: Run, bank: gates.GateBank, phases: Phases) -> WidthController:
        """Let the task loss and the prices of the resources move the widths; remove closed channels on the way."""
        bounds = self.priced(run.model, run.budget)
        controller = self.controller(run.model, bounds, bank, phases.pruning - phases.warm_up)
        run.part("controller", controller)
        for _ in run.train("pruning", phases.pruning, before=controller.open_gates, detail=controller.row):
            bank.learn_importance()
            controller.update()
            if controller.step % RERANK_EVERY == 0:
                self.rank(run, bank)
            if controller.step % max(1, controller.steps // CHECKS) == 0:
                controller.calibrate()
                if self.shrinking:
                    run.keep(bank.best(even_widths(run.graph, controller.reach(), run.graph.widths)))
        self.rank(run, bank)
        bank.open()
        return controller

    def _land(self, run: Run, bank: gates.GateBank, controller: WidthController) -> None:
        """Integer widths on exact bytes; channels that were removed too early come back."""
        importance = [np.sort(part.numpy())[::-1] for part in bank.importance.split(bank.sizes)]
        limit = run.model.dense_widths if self.growing else np.array(bank.sizes)
        widths = land(run.model, run.budget, controller.widths, limit, importance, growing=self.growing)
        run.keep(bank.best(np.minimum(widths, bank.sizes)))
        run.widen(widths)
