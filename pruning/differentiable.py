"""The differentiable pruning job: one training run that ends inside the budget.

After Liberis & Lane, "Differentiable Neural Network Pruning to Enable Smart Applications on Microcontrollers" (IMWUT
2022): resources are differentiable functions of layer widths, and the task loss decides which widths shrink. The
formulation (rank gates, budgets as constraints, landing on exact bytes) is ours: docs/method.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.resource_model import ResourceModel
from pruning.engine import depth, gates, structure
from pruning.engine.controller import WidthController
from pruning.engine.landing import grow, land, settle
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.engine.structure import Edit
from pruning.engine.widening import even_widths
from pruning.methods import Compression
from pruning.training.problem import Problem, Settings
from pruning.training.recipe import check_phases
from pruning.training.run import Run, Steps

CHECKS = 12
"""How often in the pruning phase the smooth resources are calibrated and shut channels removed for real."""

RERANK_EVERY = 10
"""Steps between re-sorting the channels by importance."""

LONGEST_PRUNING = 0.35
FAR = 8.0
SHORTEST_SHARE = 0.25
"""Pruning takes this fraction of the float steps when a resource must shrink ``FAR`` times or more, else less."""

SHORTEST_WARM_UP, LATEST_LANDING = 0.1, 0.45
"""The network stays dense until pruning must begin to end here, as fractions of the float steps: wide networks learn
more per epoch, so a budget that is near is not worth an early start."""

NEAR = 1.5
"""Below this compression widths settle at multiples that train fast: the job is to cost no more than dense training,
and a network of 29 channels costs what one of 32 does. Far budgets spend every channel where it is worth most."""

WATCH_STEPS = 50
"""Steps at the end of the warm-up during which importances are learned with all gates open."""


@dataclass(frozen=True)
class Phases:
    """Steps at which the phases end: dense warm-up (its end learns importances), pruning; the rest is recovery."""

    unwatched: int
    warm_up: int
    pruning: int

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], steps: int, compression: float) -> Phases:
        """Phases of a job of ``steps`` float steps.

        Their fractions are the hyperparameters ``warmup`` and ``pruning``. By default the length of pruning is
        proportional to the logarithm of the ``compression``, up to ``FAR``; the warm-up takes the remaining steps until
        ``LATEST_LANDING``. Where only one is given, the other takes no more than is left.

        Raises:
            InputError: if the steps are too few, or the two fractions together more than all of them.
        """
        if steps < 2:
            raise InputError(
                f"{steps} steps of training: too few to prune in; allowed are 2 or more: take more epochs, smaller "
                "batches or more samples"
            )
        distance = min(1.0, math.log(max(1.0, compression)) / math.log(FAR))
        usual = min(LONGEST_PRUNING * max(SHORTEST_SHARE, distance), 1 - float(hyperparameters.get("warmup", 0)))
        pruning = float(hyperparameters.get("pruning", usual))
        latest = min(1 - pruning, max(SHORTEST_WARM_UP, LATEST_LANDING - pruning))
        warm_up = float(hyperparameters.get("warmup", latest))
        check_phases(warm_up, pruning)
        pruning_steps = min(max(1, round(pruning * steps)), steps - 1)
        dense_steps = min(max(1, round(warm_up * steps)), steps - pruning_steps)
        return cls(max(0, dense_steps - WATCH_STEPS), dense_steps, dense_steps + pruning_steps)


def compression(dense: Resources, budget: Budget) -> float:
    """Compression ratio: the dense network's use of the tightest bound over that bound; at least 1."""
    return max([1.0, *(getattr(dense, name) / bound for name, bound in budget.bounds().items())])


class DifferentiablePruning(Compression):
    """Prunes while training until every bound holds on exact bytes.

    Hyperparameters: those of ``pruning.training.recipe``, ``warmup`` and ``pruning`` (fractions of the float steps),
    ``balance``: the price, in units of the loss's own pull, of resources that have no bound (0 by default), and
    ``halving``: whether half the resolution is tried if memory or operations have to shrink far (true by default).

    Attributes:
        controller: updates the widths.
        shrinking: whether channels with closed gates are removed during pruning, not only at its end.
        growing: whether landing adds channels while they fit the budget.
        settling: whether widths for mild compression are rounded to multiples that train fast.
        shortening: whether residual branches are removed if a budget is too small for their fixed costs
            (``pruning.engine.depth``).
    """

    controller: type[WidthController] = WidthController
    shrinking = True
    growing = True
    settling = True
    shortening = True

    name = "differentiable"

    last_phase = "recovery"
    heir_defaults: Mapping[str, Any] = {"warmup": SHORTEST_WARM_UP, "pruning": LONGEST_PRUNING}

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> None:
        """Refuse a budget that cannot be met by any widths, even with branches removed and at half the resolution.

        Raises:
            UnreachableBudgetError: with the smallest resources the network can reach.
        """
        halves = _may_halve(settings.hyperparameters)
        self.require_reachable(problem.network(), problem.constraints, budget, halves=halves)

    def require_reachable(
        self, network: nn.Module, constraints: Constraints, budget: Budget, *, halves: bool = False
    ) -> None:
        """As ``refuse``, with or without half the resolution."""
        structure.Reach(constraints.trace(network), constraints, halves, self.shortening).require(budget)

    def rebuild(self, module: fx.GraphModule, notes: Mapping[str, Any]) -> fx.GraphModule:
        """The network with the changes of structure so far."""
        return structure.edited(module, notes.get("edits", []))

    def compress(self, run: Run) -> Generator[None, None, None]:
        """Warm up, prune, land."""
        network = run.network
        if run.budget.admits(network.dense) or run.has_done("landing"):
            return
        phases = Phases.of(run.hyperparameters, run.float_steps, compression(network.dense, run.budget))
        bank = network.attach_gates()
        run.part("bank", bank)
        yield from self._warm_up(run, bank, phases)
        if run.step == phases.warm_up and run.once("structure"):
            bank = self._restructure(run, bank)
        controller = yield from self._prune(run, bank, phases)
        network.detach_gates()
        run.parts.clear()
        run.once("landing")
        self._land(run, bank, controller)

    def priced(self, model: ResourceModel, budget: Budget) -> Budget:
        """The bounds that constrain training; landing always meets the whole budget."""
        return budget

    def rank(self, run: Run, bank: gates.GateBank) -> None:
        """Rank the channels of every group by importance."""
        bank.rerank()

    def _warm_up(self, run: Run, bank: gates.GateBank, phases: Phases) -> Steps:
        """Train dense; towards the end, learn which channels matter."""
        yield from run.train("warm-up", phases.unwatched)
        for _ in run.train("warm-up", phases.warm_up, before=bank.watch):
            yield
            bank.learn_importance()
        if run.step == phases.warm_up:
            bank.require_learned()
            self.rank(run, bank)

    def _restructure(self, run: Run, bank: gates.GateBank) -> gates.GateBank:
        """Lower the resolution and take out branches where the budget asks for it.

        What is known of the channels that stay is kept.
        """
        network = run.network
        before = len(structure.halved(edit for stage in run.edits for edit in stage))
        is_far = structure.is_far(network.origin or network.dense, run.budget, before)
        tries = run.can_try and is_far and _may_halve(run.hyperparameters)
        if not tries and not (self.shortening and depth.is_cramped(network.model, run.budget)):
            return bank
        importance = gates.importance_of_channels(network.module)
        network.detach_gates()

        def contest(module: fx.GraphModule) -> depth.Contender | None:
            pruned = pruned_at_once(module, network.constraints, run.budget, importance)
            if pruned is None:
                return None
            use = [getattr(pruned.resources, name) / bound for name, bound in run.budget.bounds().items()]
            return depth.Contender(run.trial_loss(pruned.module), float(np.mean(use)), max(use))

        edits: list[Edit] = []
        if tries:
            edits += structure.halved_unless_worse(network.module, network.constraints, run.budget, contest)
        module = structure.edited(network.module, edits)
        if self.shortening:
            edits += self._removals(run, module, contest)
        if edits:
            run.notes["edits"] = edits
            run.replace(structure.edited(network.module, edits))
        bank = network.attach_gates()
        bank.take_importance(network.module, importance)
        run.parts["bank"] = bank  # not from the checkpoint: that has the bank of the whole network, if any
        self.rank(run, bank)
        return bank

    def _removals(self, run: Run, module: fx.GraphModule, contest: depth.Contest) -> list[Edit]:
        """The branches of a network the budget is too small for."""
        constraints = run.network.constraints
        model = constraints.model(module)
        if not depth.is_cramped(model, run.budget):
            return []
        if run.can_try and depth.is_contested(model, run.budget):
            return depth.contested(module, constraints, run.budget, contest)
        return depth.expendable(module, constraints, run.budget, run.judge)

    def _prune(self, run: Run, bank: gates.GateBank, phases: Phases) -> Generator[None, None, WidthController]:
        """Let the task loss and the prices of the resources move the widths; remove closed channels on the way."""
        network = run.network
        bounds = self.priced(network.model, run.budget)
        balance = float(run.hyperparameters.get("balance", 0.0))
        controller = self.controller(network.model, bounds, bank, phases.pruning - phases.warm_up, balance)
        run.part("controller", controller)
        for _ in run.train("pruning", phases.pruning, before=controller.open_gates, detail=controller.row):
            yield
            bank.learn_importance()
            controller.update()
            if controller.step % RERANK_EVERY == 0:
                self.rank(run, bank)
            if controller.step % max(1, controller.steps // CHECKS) == 0:
                controller.calibrate()
                if self.shrinking:
                    network.keep(bank.best(even_widths(network.graph, controller.reach(), network.graph.widths)))
        self.rank(run, bank)
        bank.open()
        return controller

    def _land(self, run: Run, bank: gates.GateBank, controller: WidthController) -> None:
        """Integer widths on exact bytes; channels that were removed too early come back."""
        network, budget = run.network, run.budget
        importance = [np.sort(group.numpy())[::-1] for group in bank.importance.split(bank.sizes)]
        limit = network.model.dense_widths if self.growing else np.array(bank.sizes)
        widths = land(network.model, budget, controller.widths, limit, importance, growing=self.growing)
        if self.settling and compression(network.origin or network.dense, budget) < NEAR:
            widths = settle(network.model, budget, widths, limit, importance)
        network.keep(bank.best(np.minimum(widths, bank.sizes)))
        network.widen(widths)


def _may_halve(hyperparameters: Mapping[str, Any]) -> bool:
    return bool(hyperparameters.get("halving", True))


def pruned_at_once(
    module: fx.GraphModule, constraints: Constraints, budget: Budget, importance: Mapping[str, torch.Tensor]
) -> PrunableNetwork | None:
    """A copy within the budget: the channels of the least importance per byte removed, without training.

    Args:
        module: traced network without gates.
        constraints, budget: what it has to meet.
        importance: of every output channel by layer, as of ``gates.importance_of_channels``.

    Returns:
        None if no widths meet the budget.
    """
    network = PrunableNetwork(copy.deepcopy(module), constraints)
    bank = network.attach_gates()
    bank.take_importance(network.module, importance)
    bank.rerank()
    network.detach_gates()
    ranked = [np.sort(group.numpy())[::-1] for group in bank.importance.split(bank.sizes)]
    model, limit = network.model, network.model.dense_widths
    try:
        cut = land(model, budget, limit.astype(float), limit, ranked, growing=False)
    except InputError:
        return None
    network.keep(bank.best(grow(model, budget, cut, cut.astype(float), limit, ranked)))
    return network
