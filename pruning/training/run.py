"""A job in progress: what every method shares, so that only the way to the widths differs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx, nn

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.graph.graph import Graph
from mcu.graph.trace import trace
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.resource_model import ResourceModel
from pruning.engine import surgery, widening
from pruning.training.averaging import WeightAverage, recalibrate
from pruning.training.checkpoint import Checkpoint, named, read_checkpoint, write_checkpoint
from pruning.training.evaluation import int8_accuracy, normalise
from pruning.training.problem import Outcome, Problem, Progress, Report, Settings, StoppedError, require_within
from pruning.training.steps import Trainer

ROWS = 200
"""About how many rows of the trajectory are kept."""

CALIBRATION_IMAGES = 512


Charge = Callable[[Int8Model, Resources], Resources]
Rebuild = Callable[[fx.GraphModule, Mapping[str, Any]], fx.GraphModule]
"""Gives the dense network the structure it had in a checkpoint, by the checkpoint's notes; weights do not matter."""


class Stateful(Protocol):
    """Something with state of its own between epochs."""

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors by name."""

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Take the state of a checkpoint."""


class Run:
    """One method at work on one problem.

    Attributes:
        module, graph: the network as it is now.
        model: resources as a function of the dense network's widths.
        dense: what the dense network uses.
        idle: how many of each group's channels are zero and there for speed alone: no part of the result.
        trainer: takes the optimiser steps.
        notes: what a method keeps in the checkpoints besides tensors, as plain JSON.
        charge: what is held against the budget, given the finished model and its measured resources; those by default.
    """

    def __init__(
        self,
        problem: Problem,
        budget: Budget,
        settings: Settings,
        report: Report,
        method: str,
        rebuild: Rebuild | None = None,
    ) -> None:
        self.problem, self.budget, self.settings, self.report, self.method = problem, budget, settings, report, method
        torch.manual_seed(settings.seed)
        self._begin_with(problem.network())
        self.model = ResourceModel(self.graph, problem.runtime)
        self.dense = self.model.exact(self.model.dense_widths)
        self.trainer = Trainer(self.module, problem, settings)
        self.shared_seconds = 0.0
        self.trajectory: list[dict[str, object]] = []
        self.network: FoldedNet | None = None
        self.parts: dict[str, Stateful] = {}
        self.notes: dict[str, Any] = {}
        self.charge: Charge | None = None
        self.saved = read_checkpoint(settings.checkpoint) if settings.checkpoint else None
        if self.saved:
            self.go_on(self.saved, rebuild)

    def _begin_with(self, module: nn.Module) -> None:
        """Take a network, with the layers that are frozen and the channels that go together."""
        problem = self.problem
        traced = trace(module, problem.input_shape, problem.frozen, problem.multiple)
        self.module, self.graph = traced.module, traced.graph
        self._widest = self.graph.widths
        self.idle = np.zeros_like(self._widest)

    def go_on(self, saved: Checkpoint, rebuild: Rebuild | None = None) -> None:
        """Take the network, the optimiser and the generators from a checkpoint."""
        self.notes = dict(saved.state.get("notes", {}))
        if rebuild:
            self.replace(rebuild(self.module, self.notes))
        self.keep([np.arange(width) for width in saved.state["widths"]])
        self.idle = np.array(saved.state.get("idle", self.idle), dtype=np.int64)
        tensors = surgery.layer_tensors(self.module, self.graph)
        surgery.fill(tensors, saved.part("network"))
        _load_momenta(self.trainer.optimizer, tensors, saved.part("momentum"))
        self.trajectory = list(saved.state["trajectory"])
        self.trainer.go_on(saved.state["step"], saved.part("random"))

    def part(self, name: str, part: Stateful) -> None:
        """Keep a method's own state in the checkpoints; if the job goes on from one, load it."""
        self.parts[name] = part
        if self.saved and (state := self.saved.part(name)):
            part.load(state)

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on from here."""
        tensors = surgery.layer_tensors(self.module, self.graph)
        trained = tensors if self.network is None else dict(self.network.named_parameters())
        states = self.trainer.optimizer.state
        momenta = {name: states[t]["momentum_buffer"] for name, t in trained.items() if t in states}
        groups = {"network": tensors, "momentum": {}, "random": self.trainer.random_state()}
        groups["momentum" if self.network is None else "int8_momentum"] = momenta
        groups |= {name: part.state() for name, part in self.parts.items()}
        if self.network is not None:
            groups["int8"] = self.network.state_dict()
        state = {
            "step": self.trainer.step,
            "widths": self.graph.widths.tolist(),
            "idle": self.idle.tolist(),
            "trajectory": self.trajectory,
            "notes": self.notes,
        }
        return Checkpoint(
            {key: value for name, group in groups.items() for key, value in named(name, group).items()}, state
        )

    @property
    def resources(self) -> Resources:
        """What the network uses with the channels it has now."""
        return self.model.exact(self.graph.widths - self.idle)

    def keep(self, kept: list[np.ndarray]) -> None:
        """Remove all but these members of each group, for real."""
        self.graph = surgery.shrink(self.module, self.graph, kept, self.trainer.optimizer)

    def widen(self, widths: np.ndarray) -> None:
        """Add channels until every group has its width; the network computes the same."""
        self.graph = widening.widen(self.module, self.graph, widths, self.trainer.optimizer)

    def replace(self, module: fx.GraphModule) -> None:
        """Go on with a copy of another network: with fewer channels, or other layers (its resources are new then, too).

        A copy, as a library that has traced the network may hold nodes of its autograd graph until the next garbage
        collection: such a node remembers the shape of its parameter, and gradients of another shape are refused.
        """
        before, widest = _layers(self.graph), self._widest
        self._begin_with(copy.deepcopy(module))
        if _layers(self.graph) != before:
            self.model = ResourceModel(self.graph, self.problem.runtime)
        else:
            self._widest = widest
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
                self.trainer.require_finite()
                if self.settings.checkpoint:
                    write_checkpoint(self.settings.checkpoint, self.checkpoint())
                self._report(phase)

    def _row(self, detail: Callable[[], dict[str, object]] | None) -> dict[str, object]:
        if detail:
            return detail()
        used = self.resources
        channels = (self.graph.widths - self.idle) * self.graph.channels // self.graph.widths
        return {"flash": used.flash, "sram": used.sram, "macs": used.macs, "widths": channels.tolist()}

    def _report(self, phase: str) -> None:
        epoch, before = len(self.trainer.batches), self.trainer.recipe.parent_epochs
        done = before + self.trainer.step / epoch
        step = before * epoch + self.trainer.step
        if not self.report(Progress(step, done, phase, self.trainer.val_accuracy(), self.resources)):
            raise StoppedError(f"stopped by the rule after {done:g} of {self.settings.epochs} epochs")

    def recover(self, phase: str) -> None:
        """Train the network as it is now to the end of the float steps; the mean of its weights, if better, stays."""
        if self.saved_int8 is not None:
            return  # the checkpoint's network has been through all this
        self._even_out()
        recipe = self.trainer.recipe
        average = self._average(recipe.averaging) if recipe.averaging else None
        for _ in self.train(phase, self.trainer.float_steps):
            if average:
                average.update()
        if average:
            self._choose(average)
            del self.parts["average"]
        if recipe.recalibration:
            recalibrate(self.module, self.problem)

    def _even_out(self) -> None:
        """Idle channels for groups that train faster with them."""
        present = self.graph.widths
        even = widening.even_widths(self.graph, present, self._widest)
        self.graph = widening.widen(self.module, self.graph, even, self.trainer.optimizer, idle=True)
        self.idle += even - present

    def _average(self, epochs: float) -> WeightAverage:
        tensors = surgery.layer_tensors(self.module, self.graph)
        average = WeightAverage(tensors, epochs * len(self.trainer.batches))
        self.part("average", average)
        return average

    def _choose(self, average: WeightAverage) -> None:
        """The last weights or their mean, by validation accuracy."""
        last = self.trainer.val_accuracy()
        average.swap()
        if self.trainer.val_accuracy() < last:
            average.swap()

    @property
    def saved_int8(self) -> dict[str, torch.Tensor] | None:
        """The network in int8 training of the checkpoint this job goes on from, if it got that far."""
        return (self.saved.part("int8") or None) if self.saved else None

    def finish(self) -> Outcome:
        """Quantise, train on with int8 arithmetic simulated, and hold the better model against the budget.

        Both the model before and the one after the int8 training are exported; int8 validation accuracy chooses.
        """
        stride = max(1, len(self.problem.x_train) // CALIBRATION_IMAGES)  # data may come sorted by class
        samples = np.ascontiguousarray(self.problem.x_train[::stride][:CALIBRATION_IMAGES])
        images = torch.as_tensor(samples).to(self.trainer.device)
        network = FoldedNet(self.graph, self.module)
        network.calibrate(normalise(images, self.problem))
        used_channels = [np.arange(width) for width in self.graph.widths - self.idle]
        best = surgery.narrowed(network, used_channels)
        model = quantise(best)
        if self.trainer.step < self.trainer.steps or self.saved_int8:  # killed after the last step, it is done already
            self._train_int8(network)
            trained = surgery.narrowed(network, used_channels)
            again = quantise(trained)
            if self._val_accuracy(again) >= self._val_accuracy(model):
                best, model = trained, again
        data = write_deployment(model)
        used = self.problem.runtime.measure(model, data)
        require_within(self.budget, self.charge(model, used) if self.charge else used, self.method)
        best.fake_quantise(False)
        self.keep(used_channels)
        self.idle[:] = 0
        names = [group.name for group in self.graph.groups]
        return Outcome(
            model,
            data,
            best,
            dict(zip(names, self.graph.channels.tolist(), strict=True)),
            dict(zip(names, self.model.graph.channels.tolist(), strict=True)),
            self.dense,
            self.trajectory,
            self.shared_seconds,
        )

    def _train_int8(self, network: FoldedNet) -> None:
        network.fake_quantise(True)
        self.trainer.adopt(network)
        self.network = network
        if self.saved and (state := self.saved_int8):
            network.load_state_dict(state)
            momenta = self.saved.part("int8_momentum")
            _load_momenta(self.trainer.optimizer, dict(network.named_parameters()), momenta)
        for _ in self.train("int8", self.trainer.steps):
            pass

    def _val_accuracy(self, model: Int8Model) -> float:
        return int8_accuracy(model, self.problem.x_val, self.problem.y_val, self.problem)


def _layers(graph: Graph) -> list[tuple[str, ...]]:
    return [tuple(group.name for group in graph.groups), tuple(op.name for op in graph.ops)]


def _load_momenta(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.Tensor], momenta: Mapping[str, torch.Tensor]
) -> None:
    for name, momentum in momenta.items():
        parameter = parameters[name]
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
