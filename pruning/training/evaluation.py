"""Scores of float and int8 networks on raw samples, by the problem's objective."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter, dequantise
from mcu.measure import model_input
from mcu.terms import TaskKind
from pruning.training.problem import Problem

BATCH = 500
INT8_BATCH = 2_000

LOSS_BATCHES, LOSS_BATCH = 2, 128
"""Training batches that ``training_loss`` looks at."""


def normalise(x: torch.Tensor, problem: Problem) -> torch.Tensor:
    """Network input from raw samples: uint8 to 0..1, then mean and standard deviation per channel."""
    scaled = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    shape = (-1, *(1,) * (x.ndim - 2))
    mean, std = (torch.tensor(v, device=x.device).view(shape) for v in (problem.mean, problem.std))
    return (scaled - mean) / std


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Images ``(N, C, H, W)`` in channels-last memory format, which is faster on a CPU; signals and rows unchanged."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def float_logits(module: nn.Module, x: np.ndarray, problem: Problem) -> torch.Tensor:
    """Logits ``(N, classes)`` of a float network on raw samples, on the CPU; the module's mode is restored."""
    training = module.training
    module.eval()
    device = next(module.parameters()).device
    with torch.no_grad():
        logits = [
            module(channels_last(normalise(batch.to(device), problem))) for batch in torch.as_tensor(x).split(BATCH)
        ]
    module.train(training)
    return torch.cat([batch.flatten(1).float().cpu() for batch in logits])


def float_accuracy(module: nn.Module, x: np.ndarray, y: np.ndarray, problem: Problem) -> float:
    """Score of a float network by the problem's objective (top-1 accuracy by default); higher is better."""
    return _score(y, float_logits(module, x, problem).numpy(), x, problem)


def _score(y: np.ndarray, outputs: np.ndarray, x: np.ndarray, problem: Problem) -> float:
    looked_at = problem.objective.kind is TaskKind.RECONSTRUCTION
    inputs = normalise(torch.as_tensor(x), problem).numpy() if looked_at else x
    return problem.objective.score(y, outputs, inputs)


def int8_inputs(model: Int8Model, x: np.ndarray, problem: Problem) -> np.ndarray:
    """Raw samples ``(N, C, H, W)`` as the int8 input ``(N, H, W, C)`` of an exported model."""
    batches = np.array_split(x, max(1, len(x) // INT8_BATCH))
    return np.concatenate([model_input(model, normalise(torch.as_tensor(b), problem).numpy()) for b in batches])


def int8_outputs(reference: ReferenceInterpreter, *codes: np.ndarray) -> list[np.ndarray]:
    """Outputs of an int8 model, dequantised, each in the order of the float network's: ``(N, values)``, flat."""
    found = []
    for port, values in zip(reference.model.outputs, reference.invoke(codes), strict=True):
        real = dequantise(values, reference.model.tensors[port.tensor])
        planes = real.transpose(0, 3, 1, 2) if real.ndim == 4 else real
        found.append(np.ascontiguousarray(planes.reshape(len(real), math.prod(real.shape[1:]))))
    return found


def int8_accuracy(
    model: Int8Model, x: np.ndarray, y: np.ndarray, problem: Problem, outputs: np.ndarray | None = None
) -> float:
    """Score of an exported model, run by the reference interpreter, by the problem's objective; higher is better."""
    if outputs is None:
        (outputs,) = int8_outputs(ReferenceInterpreter(model), int8_inputs(model, x, problem))
    return _score(y, outputs, x, problem)


@torch.no_grad()
def training_loss(module: nn.Module, problem: Problem) -> float:
    """Mean loss on a few training batches, in evaluation mode."""
    device = next(module.parameters()).device
    stride = max(1, len(problem.x_train) // (LOSS_BATCHES * LOSS_BATCH))  # data may come sorted by class
    images = torch.as_tensor(np.ascontiguousarray(problem.x_train[::stride][: LOSS_BATCHES * LOSS_BATCH])).to(device)
    labels = torch.as_tensor(problem.y_train[::stride][: LOSS_BATCHES * LOSS_BATCH]).to(device)
    module.eval()
    total = 0.0
    for x, y in zip(images.split(LOSS_BATCH), labels.split(LOSS_BATCH), strict=True):
        inputs = normalise(x, problem)
        total += len(y) * float(problem.objective.loss(module(inputs).flatten(1).float(), inputs, y))
    return total / len(labels)
