"""Pruning of a network to a budget in one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.runtime import Runtime
from pruning.differentiable import DifferentiablePruning
from pruning.exported import ExportedModel
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Infeasible, Problem, Settings

Arrays = tuple[Any, Any]


def prune(
    network: nn.Module,
    *,
    train: Arrays,
    val: Arrays,
    budget: Budget,
    epochs: int = 20,
    batch_size: int = 128,
    seed: int = 0,
    device: str = "cpu",
    augment: str = "none",
    frozen: tuple[str, ...] = (),
    round_to: int = 1,
    hyperparameters: Mapping[str, float | int | str | bool] | None = None,
) -> ExportedModel:
    """Train and prune a classifier with the built-in job; the given network is not changed.

    Args:
        network: gives logits ``(N, classes)``.
        train, val: inputs ``(N, C, H, W)`` and class numbers ``(N,)``, arrays or tensors. Floats are used as they are,
            uint8 images as ``x / 255``.
        budget: upper bounds for the int8 model, checked on measured bytes.
        epochs, batch_size, seed, device: of the training.
        augment: name of a batch augmentation in ``pruning.training.augment``.
        frozen, round_to: see ``Pruner``.
        hyperparameters: those of ``pruning.training.recipe`` and of ``DifferentiablePruning``.

    Raises:
        UnreachableBudgetError: if no widths can meet the budget, with the smallest figures that can be reached.
        InputError: if the network cannot be traced, or arrays and network do not fit together.
    """
    x_train, y_train = _checked(*train, "train")
    x_val, y_val = _checked(*val, "val")
    shape = tuple(x_train.shape[1:])
    with torch.no_grad():
        parameter = next(network.parameters())
        classes = _logits(copy.deepcopy(network).eval(), torch.zeros(1, *shape).to(parameter)).flatten(1).shape[1]
    for name, y in (("train", y_train), ("val", y_val)):
        if y.min() < 0 or y.max() >= classes:
            raise InputError(f"{name}: classes go from {y.min()} to {y.max()}; the network has 0 to {classes - 1}")
    problem = Problem(
        lambda: copy.deepcopy(network), shape, classes, x_train, y_train, x_val, y_val, augment=augment, frozen=frozen,
        round_to=round_to, runtime=Runtime(budget=budget),
    )  # fmt: skip
    settings = Settings(epochs, batch_size, seed, device, hyperparameters=dict(hyperparameters or {}))
    outcome = DifferentiablePruning().run(problem, budget, settings, lambda progress: True)
    if isinstance(outcome, Infeasible):
        raise InputError(outcome.reason)
    used: Resources = problem.runtime.measure(outcome.model, outcome.data)
    score = int8_accuracy(outcome.model, x_val, y_val, problem)
    return ExportedModel(outcome.model, outcome.data, used, outcome.folded_network, score, problem.runtime)


def _logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    try:
        found = network(x)
    except TypeError as error:
        if "required positional argument" not in str(error):
            raise
        found = error
    if not isinstance(found, torch.Tensor):
        told = "takes several inputs" if isinstance(found, TypeError) else f"returns {type(found).__name__}"
        raise InputError(f"network: it {told}; allowed here is one tensor of logits for one input: use Pruner")
    return found


def _checked(x: Any, y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs uint8 or float32, labels int64, of one length."""
    x, y = np.asarray(x), np.asarray(y)
    x = x if x.dtype == np.uint8 else x.astype(np.float32)
    if len(x) != len(y) or not len(x) or y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"{name}: inputs {x.shape} with labels {y.dtype} {y.shape}; allowed are as many whole numbers")
    return x, y.astype(np.int64)
