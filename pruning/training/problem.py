"""Input of a method: network, training and validation data, budget and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from mcu.budget import Budget, Resources
from mcu.int8.model import Int8Model
from mcu.runtime import Runtime
from pruning.engine.network import Constraints
from pruning.training.objective import Objective
from pruning.training.trained import TrainedNetwork


@dataclass(frozen=True)
class Problem:
    """A task and the dense network for it. It has no test data, so that methods cannot use it.

    Attributes:
        network: builds the dense network with freshly initialised weights.
        input_shape: ``(C, H, W)``.
        classes: number of classes, labels or values: of the network's outputs, or of those in each cell.
        x_train, x_val: ``(N, C, H, W)``, uint8 or float32.
        y_train, y_val: targets, see ``Objective``; usually class numbers, int64 ``(N,)``.
        mean, std: per channel, subtracted and divided after uint8 samples were scaled to 0..1.
        runtime: what the budget bounds.
        augment: name of a batch augmentation in ``pruning.training.augment``.
        objective: loss, and the metric of validation scores and so of every choice a method makes.
        class_weights: weighting of rare classes in the loss: 0 none, 1 all classes have equal total weight.
        frozen: paths of layers that keep all their channels.
        round_to: channels that are kept or removed together, in every group whose size is a multiple of it.
        identity: digest of the data and of the initialised network; equal for equal problems; problems without one do
            not share a dense parent.
        ancestor: trained network that a job starts from instead of random weights.
        teacher: trained dense network whose logits are distilled in the recovery phase of a job that has an ancestor.
    """

    network: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    classes: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augment: str = "none"
    runtime: Runtime = field(default_factory=Runtime)
    objective: Objective = field(default_factory=Objective)
    class_weights: float = 0.0
    frozen: tuple[str, ...] = ()
    round_to: int = 1
    identity: str = ""
    ancestor: TrainedNetwork | None = None
    teacher: TrainedNetwork | None = None

    def start(self) -> nn.Module:
        """The network a job starts from."""
        return self.ancestor.build(self.network(), self.constraints) if self.ancestor else self.network()

    @cached_property
    def constraints(self) -> Constraints:
        """What the user prescribes for the network."""
        return Constraints(self.input_shape, self.frozen, self.round_to, self.runtime)


@dataclass(frozen=True)
class Settings:
    """Schedule and optimiser of one job; every method of a sweep gets the same ``epochs``.

    Attributes:
        epochs: passes over the training data, everything included (pre-training, pruning, fine-tuning, QAT).
        checkpoint: folder in which the job saves its checkpoint and looks for one to resume from, if any.
        parents: folder in which dense parents are shared between jobs, if any.
        hyperparameters: what the sampler chose, by name: those of
            ``pruning.training.recipe.Recipe`` and the method's own.
    """

    epochs: int = 20
    batch_size: int = 128
    seed: int = 0
    device: str = "cpu"
    checkpoint: Path | None = None
    parents: Path | None = None
    hyperparameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A report between epochs. ``val_accuracy`` is that of the float network, for monitoring only."""

    step: int
    epochs_done: float
    phase: str
    val_accuracy: float
    resources: Resources


Report = Callable[[Progress], bool]
"""Called after every epoch; False asks the job to stop (``StoppedError``)."""


class StoppedError(Exception):
    """The stop rule ended the job early."""


class DivergedError(Exception):
    """The loss, or a weight, is not a finite number."""


class CannotTakeError(Exception):
    """A method, or the library it uses, does not support this network; other methods may."""


@dataclass(frozen=True)
class Infeasible:
    """A method's result when it cannot meet the budget: the reason, and the smallest resources it can reach."""

    reason: str
    smallest: Resources


@dataclass(frozen=True)
class Outcome:
    """Result of a method.

    Attributes:
        model: the int8 network.
        data: its .tflite file.
        folded_network: the same network before int8, for normalised inputs ``(N, C, H, W)``.
        widths, dense_widths: channels per group after and before, by group name.
        dense: resources of the dense network.
        trajectory: one row per few steps: step, phase, resources, multipliers, widths, loss.
        shared_seconds: training time of a dense parent that another job had trained.
        trained: the float network before quantisation-aware training, for jobs that start from it.
        shortfall: why the file itself exceeds the budget, for the one method whose flash is charged and not measured.
    """

    model: Int8Model
    data: bytes
    folded_network: nn.Module
    widths: dict[str, int]
    dense_widths: dict[str, int]
    dense: Resources
    trajectory: list[dict[str, object]]
    shared_seconds: float = 0.0
    trained: TrainedNetwork | None = None
    shortfall: str | None = None


class BudgetMissedError(RuntimeError):
    """A method exported a model over its budget: a defect, never a result."""


def require_within(budget: Budget, used: Resources, method: str) -> None:
    """Raise ``BudgetMissedError`` unless the measured resources are within the budget."""
    if not budget.admits(used):
        raise BudgetMissedError(f"method {method}: measured {used} exceeds {budget}")
