"""A job in progress: what every method shares, so that only the way to the widths differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import fx

from mcu.budget import Budget, Resources
from mcu.float_net import FloatNet
from mcu.measure import measure_model
from mcu.quantize import quantise
from mcu.resources import ResourceModel
from mcu.tflite_writer import write_tflite
from mcu.trace import trace
from pruning import surgery
from pruning.problem import Outcome, Problem, Progress, Report, Settings, StoppedError, require_within
from pruning.training import Trainer, normalise

ROWS = 200
"""About how many rows of the trajectory are kept."""

CALIBRATION_IMAGES = 512

QAT_RATE = 0.5
"""Factor on the learning rate once int8 arithmetic is simulated."""


class Run:
    """One method at work on one problem.

    Attributes:
        module, graph: the network as it is now.
        model: resources as a function of the dense network's widths.
        dense: what the dense network uses.
        trainer: takes the optimiser steps.
    """

    def __init__(self, problem: Problem, budget: Budget, settings: Settings, report: Report, method: str) -> None:
        self.problem, self.budget, self.settings, self.report, self.method = problem, budget, settings, report, method
        torch.manual_seed(settings.seed)
        traced = trace(problem.network(), problem.input_shape)
        self.module: fx.GraphModule = traced.module
        self.graph = traced.graph
        self.model = ResourceModel(traced.graph)
        self.dense = self.model.exact(self.model.dense_widths)
        self.trainer = Trainer(self.module, problem, settings)
        self.trajectory: list[dict[str, object]] = []

    @property
    def resources(self) -> Resources:
        """What the network uses with the channels it has now."""
        return self.model.exact(self.graph.widths)

    @property
    def float_steps(self) -> int:
        """Steps before the int8 training begins."""
        return self.trainer.steps - round(self.settings.qat_fraction * self.trainer.steps)

    def keep(self, kept: list[np.ndarray]) -> None:
        """Remove all but these members of each group, for real."""
        self.graph = surgery.shrink(self.module, self.graph, kept, self.trainer.optimizer)

    def replace(self, module: fx.GraphModule) -> None:
        """Go on with another network of the same kind (a peer library pruned a copy)."""
        traced = trace(module, self.problem.input_shape)
        self.module, self.graph = traced.module, traced.graph
        self.trainer.adopt(self.module)

    def train(
        self,
        phase: str,
        until: int,
        before: Callable[[], None] | None = None,
        detail: Callable[[], dict[str, object]] | None = None,
    ) -> Iterator[float]:
        """Optimiser steps up to ``until``, yielding each loss; ``before`` runs ahead of each step.

        Raises:
            StoppedError: when a report is answered with False.
            DivergedError: when the loss is not finite.
        """
        every = max(1, self.trainer.steps // ROWS)
        for loss in self.trainer.run(until, before):
            yield loss
            step = self.trainer.step
            if step % every == 0 or step == until:
                self.trajectory.append({"step": step, "phase": phase, "loss": round(loss, 4), **self._row(detail)})
            if step % len(self.trainer.batches) == 0:
                self._report(phase)

    def _row(self, detail: Callable[[], dict[str, object]] | None) -> dict[str, object]:
        if detail:
            return detail()
        used = self.resources
        return {"flash": used.flash, "sram": used.sram, "macs": used.macs, "widths": self.graph.widths.tolist()}

    def _report(self, phase: str) -> None:
        done = self.trainer.step / len(self.trainer.batches)
        progress = Progress(self.trainer.step, done, phase, self.trainer.val_accuracy(), self.resources)
        if not self.report(progress):
            raise StoppedError(f"stopped by the rule after {done:g} of {self.settings.epochs} epochs")

    def finish(self) -> Outcome:
        """Train on with int8 arithmetic simulated, export, and hold the file and its arena against the budget."""
        images = torch.as_tensor(self.problem.x_train[:CALIBRATION_IMAGES]).to(self.trainer.device)
        calibration = normalise(images, self.problem)
        network = FloatNet(self.graph, self.module)
        network.calibrate(calibration)
        if self.trainer.step < self.trainer.steps:
            network.fake_quantise(True)
            self.trainer.adopt(network, low_precision=False, rate=QAT_RATE)
            for _ in self.train("int8", self.trainer.steps):
                pass
        network = network.cpu().eval()
        model = quantise(network)
        data = write_tflite(model)
        measured = measure_model(data)
        require_within(self.budget, Resources(measured.flash, measured.sram, measured.macs), self.method)
        network.fake_quantise(False)
        names = [group.name for group in self.graph.groups]
        return Outcome(
            model,
            data,
            network,
            dict(zip(names, self.graph.widths.tolist(), strict=True)),
            dict(zip(names, self.model.dense_widths.tolist(), strict=True)),
            self.dense,
            self.trajectory,
        )
