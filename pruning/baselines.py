"""Baseline compression methods: same data, epochs, augmentation, optimiser, int8 protocol and budget.

Each lands inside the budget by bisection on its own knob, on the same exact bytes as the differentiable job.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import fx

from mcu.budget import Budget, Resources
from mcu.resources import ResourceModel
from mcu.trace import trace
from pruning.landing import smallest as smallest_of
from pruning.parent import begin
from pruning.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.recipe import TRAINING
from pruning.run import Run
from pruning.widths import first_fit

LARGEST_RATIO = 0.95
"""Beyond it Torch-Pruning refuses to empty layers and prunes less, not more."""


class UniformWidth:
    """Every layer narrowed by one factor, trained from scratch (Howard et al., MobileNets, 2017).

    Hyperparameters: those of ``pruning.recipe``.
    """

    name = "uniform"
    summary = "one width multiplier for all layers, trained from scratch"
    hyperparameters = TRAINING

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Pick the largest factor that fits, then train for all epochs."""
        run = begin(problem, budget, settings, report, self.name)

        def narrowed(compression: float) -> np.ndarray:
            return np.maximum(1, np.floor((1 - compression) * run.model.dense_widths + 1e-9)).astype(np.int64)

        widths = first_fit(narrowed, run.model.exact, budget)
        if widths is None:
            return Infeasible("over budget even with one channel in every layer", smallest_of(run.model))
        if run.trainer.step == 0:
            run.keep([np.arange(width) for width in widths])
        run.recover("training")
        return run.finish()


class MagnitudePruning:
    """Filters with the smallest L1 norm go (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017).

    Pre-trains dense, prunes once with the Torch-Pruning library at the smallest ratio that fits, fine-tunes.
    Hyperparameters: those of ``pruning.recipe`` and ``pretrain`` (part of the float steps).
    """

    name = "l1"
    summary = "L1-norm filter pruning by Torch-Pruning: pre-train, prune once, fine-tune"
    hyperparameters = (*TRAINING, "pretrain")
    order = 1

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Pre-train, find the ratio by bisection, prune, fine-tune."""
        run = begin(problem, budget, settings, report, self.name)
        pretrain = float(settings.hyperparameters.get("pretrain", 0.4))
        pretrained = round(pretrain * run.trainer.float_steps)
        for _ in run.train("pre-training", pretrained):
            pass
        if run.trainer.step == pretrained:
            network = first_fit(lambda ratio: self._pruned(run, ratio), lambda n: _used(n, problem), budget)
            if network is None:
                smallest = _used(self._pruned(run, LARGEST_RATIO), problem)
                return Infeasible("over budget at every pruning ratio", smallest)
            run.replace(network)
        run.recover("fine-tuning")
        return run.finish()

    def importance(self) -> Any:
        """Torch-Pruning's importance criterion."""
        return tp.importance.MagnitudeImportance(p=self.order)

    def _pruned(self, run: Run, ratio: float) -> fx.GraphModule:
        """A copy of the network without ``ratio`` of its channels, chosen across all layers together."""
        network = copy.deepcopy(run.module)
        last = next(op for op in run.graph.ops if op.output == run.graph.output)
        scores = network.get_submodule(str(last.layer))
        example = torch.zeros(1, *run.problem.input_shape, device=run.trainer.device)
        pruner = tp.pruner.BasePruner(
            network,
            example,
            importance=self.importance(),
            pruning_ratio=ratio,
            max_pruning_ratio=1.0,
            ignored_layers=[scores],
            global_pruning=True,
        )
        network.eval()
        pruner.step()
        return network


def _used(network: fx.GraphModule, problem: Problem) -> Resources:
    model = ResourceModel(trace(network, problem.input_shape).graph, problem.runtime)
    return model.exact(model.dense_widths)
