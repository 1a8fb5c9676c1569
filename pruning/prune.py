"""Pruning of a network to a budget in one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.errors import InputError, require_whole
from mcu.runtime import Runtime
from mcu.terms import TaskKind
from mcu.tracing.capture import first_line, unwrapped
from pruning.catalogue import find_method
from pruning.differentiable import DifferentiablePruning
from pruning.exported import ExportedModel
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.rehearsal import require_end

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
        InputError: if the network cannot be traced, arrays and network do not fit together, arrays have values that
            are not finite, or an argument is not allowed.
        DivergedError: if the loss or a weight becomes no finite number.
    """
    if not isinstance(budget, Budget):
        raise InputError(f"budget = {budget!r}: allowed is a Budget, such as Budget(flash='64KB')")
    settings = _checked_settings(Settings(epochs, batch_size, seed, device), hyperparameters)
    x_train, y_train = _checked(train, "train")
    x_val, y_val = _checked(val, "val")
    shape = tuple(x_train.shape[1:])
    if (x_val.shape[1:], x_val.dtype) != (shape, x_train.dtype):
        raise InputError(
            f"val: inputs {x_val.dtype} {x_val.shape} beside train's {x_train.dtype} {x_train.shape}; allowed are the "
            "same type and shape of an example: uint8 is divided by 255, other numbers are used as they are"
        )
    classes = _classes(network, shape)
    for name, y in (("train", y_train), ("val", y_val)):
        if y.min() < 0 or y.max() >= classes:
            raise InputError(f"{name}: classes go from {y.min()} to {y.max()}; the network has 0 to {classes - 1}")
    problem = Problem(
        lambda: copy.deepcopy(network), shape, classes, x_train, y_train, x_val, y_val, augment=augment, frozen=frozen,
        round_to=round_to, runtime=Runtime(budget=budget),
    )  # fmt: skip
    require_end(problem.constraints.trace(copy.deepcopy(network)), TaskKind.CLASSIFICATION)
    outcome = DifferentiablePruning().run(problem, budget, settings, lambda progress: True)
    if isinstance(outcome, Infeasible):
        raise InputError(outcome.reason)
    used: Resources = problem.runtime.measure(outcome.model, outcome.data)
    score = int8_accuracy(outcome.model, x_val, y_val, problem)
    images = x_train.dtype == np.uint8
    return ExportedModel(outcome.model, outcome.data, used, outcome.folded_network, score, problem.runtime, images)


def _checked_settings(given: Settings, hyperparameters: Any) -> Settings:
    _check_device(given.device)
    return replace(
        given,
        epochs=require_whole("epochs", given.epochs, 1),
        batch_size=require_whole("batch_size", given.batch_size, 1),
        seed=require_whole("seed", given.seed, 0),
        hyperparameters=_hyperparameters(hyperparameters),
    )


def _check_device(device: str) -> None:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    is_gpu = found is not None and found.type == "cuda" and (found.index or 0) < torch.cuda.device_count()
    if found is None or not (is_gpu or found.type == "cpu"):
        raise InputError(f"device = {device!r}: allowed are 'cpu' and a GPU that torch sees, such as 'cuda'")


def _hyperparameters(given: Any) -> dict[str, Any]:
    """A copy of those of the built-in job."""
    known = find_method("differentiable").hyperparameters or ()
    if not isinstance(given, Mapping | None):
        raise InputError(f"hyperparameters = {given!r}: allowed is a dict of {', '.join(known)}")
    if unknown := [str(name) for name in given or () if name not in known]:
        raise InputError(f"hyperparameters: unknown {', '.join(unknown)}; allowed are {', '.join(known)}")
    return dict(given or {})


def _classes(network: nn.Module, shape: tuple[int, ...]) -> int:
    """How many logits a classifier gives for an example of this shape."""
    network = unwrapped(network)
    with torch.no_grad():
        parameter = next(network.parameters(), torch.zeros(1))
        logits = _logits(copy.deepcopy(network).eval(), torch.zeros(1, *shape).to(parameter))
    classes = logits.flatten(1).shape[1]
    if logits.shape[1] != classes:
        sizes = ", ".join(map(str, logits.shape[1:]))
        raise InputError(
            f"network: it returns (N, {sizes}); allowed here are logits (N, classes): use Pruner, or a sweep for a "
            "task of another kind"
        )
    return classes


def _logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    try:
        found = network(x)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"train: an input of shape {tuple(x.shape[1:])} does not pass through the network: {first_line(error)}"
        ) from None
    except TypeError as error:
        if "required positional argument" not in str(error):
            raise
        found = error
    if not isinstance(found, torch.Tensor):
        told = "takes several inputs" if isinstance(found, TypeError) else f"returns {type(found).__name__}"
        raise InputError(f"network: it {told}; allowed here is one tensor of logits for one input: use Pruner")
    return found


def _checked(pair: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs uint8 or float32, labels int64, of one length."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"{name} is a {type(pair).__name__}; allowed is a pair of arrays, inputs and class numbers")
    x, y = (_array(part, name) for part in pair)
    if x.dtype.kind in "biuf" and x.dtype != np.uint8:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
    if x.dtype.kind not in "uf" or not np.isfinite(x).all():
        raise InputError(f"{name}: inputs are {x.dtype}, or not all finite; allowed are finite numbers")
    if not x.ndim or y.ndim != 1 or len(x) != len(y) or not len(x) or y.dtype.kind not in "iu":
        raise InputError(f"{name}: inputs {x.shape} with labels {y.dtype} {y.shape}; allowed are as many whole numbers")
    return x, y.astype(np.int64)


def _array(part: Any, name: str) -> np.ndarray:
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu()
        part = part.float() if part.is_floating_point() else part
    try:
        return np.asarray(part)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: cannot be read as an array of numbers: {first_line(error)}") from None
