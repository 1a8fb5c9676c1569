"""Checks of what a sweep trains and is judged by, before it starts: metric, loss, score and what goes with them."""

from __future__ import annotations

import math

import numpy as np
import torch

from mcu.errors import InputError
from mcu.terms import TaskKind
from orchestrator.worker.trial import objective_of
from pruning.training.objective import Objective
from search_spaces.choices import TrainingChoice
from search_spaces.factories import called
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task

TRIED = 64
"""Training samples that a loss of the user's is tried on."""

MOST_VALUES = 10_000_000
"""Outputs for the validation samples that a score is tried on."""


def check_objective(sweep: SweepConfig, task: Task) -> None:
    """Refuse what does not suit the task, has no part in the loss, or is no loss or score when it is called.

    Raises:
        InputError: naming the key.
    """
    training = sweep.training
    if training.class_weights and task.kind is not TaskKind.CLASSIFICATION:
        raise InputError(f"training.class_weights: the task {task.name!r} has no classes to weigh; leave it out")
    if training.loop is not None and (training.loss or training.class_weights):
        key = "loss" if training.loss else "class_weights"
        raise InputError(f"training.{key}: has no part in training.loop, which has its own loss; leave one out")
    _try_objective(objective_of(training, task), training, task)
    if training.loop is not None:
        return
    if training.loss and training.class_weights:
        raise InputError("training.class_weights: has no part in training.loss, your own; weigh classes there")
    loss = "your own training.loss" if training.loss else f"the loss of a task of the kind {str(task.kind)!r}"
    smoothed = task.kind is TaskKind.CLASSIFICATION and not training.loss
    if not smoothed and sweep.hyperparameters.get("label_smoothing", 0) != 0:
        raise InputError(f"hyperparameters.label_smoothing: has no part in {loss}; leave it out")
    if task.kind is not TaskKind.CLASSIFICATION and "distillation_temperature" in sweep.hyperparameters:
        raise InputError(
            "hyperparameters.distillation_temperature: is of logits of classes; a task of the kind "
            f"{str(task.kind)!r} has none; leave it out"
        )


def _try_objective(objective: Objective, training: TrainingChoice, task: Task) -> None:
    """Call the user's loss and score once, on outputs drawn at random."""
    width, generator = task.outputs * math.prod(task.cells), np.random.default_rng(0)

    def drawn(count: int) -> np.ndarray:
        return generator.standard_normal((count, width)).astype(np.float32)

    if training.loss is not None:
        x, y = (torch.as_tensor(np.array(part[:TRIED])) for part in (task.x_train, task.y_train))
        outputs = torch.from_numpy(drawn(len(x))).requires_grad_()
        where = f"training.loss = {training.loss!r}:"
        loss = called(objective.loss, where, outputs, x.float(), y)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            what = f"a tensor {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
            raise InputError(f"{where} returned {what}; must be a tensor of one value, such as the mean over a batch")
        if not loss.requires_grad or torch.autograd.grad(loss.sum(), outputs, allow_unused=True)[0] is None:
            raise InputError(f"{where} what it returned has no gradient by the outputs: compute it from them in torch")
    if training.score is not None:
        count = min(len(task.y_val), max(1, MOST_VALUES // width))
        x_val = task.x_val[:count].astype(np.float32)
        called(objective.score, f"training.score = {training.score!r}:", task.y_val[:count], drawn(count), x_val)
