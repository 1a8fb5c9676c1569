"""The training loop every method shares: same batches, optimiser and schedule, so that only the method differs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from pruning.training.augment import augmentation
from pruning.training.evaluation import channels_last, float_accuracy, normalise
from pruning.training.metrics import class_weights
from pruning.training.precision import has_fast_bf16
from pruning.training.problem import DivergedError, Problem, Settings
from pruning.training.recipe import Recipe

WARM_UP_STEPS = 50
MOMENTUM = 0.9
INT8_RATE = 0.01
"""Factor on the learning rate while int8 arithmetic is simulated: without batch normalisation, steps must be small."""

LARGEST_GRADIENT = 20.0
"""Longer gradients are shortened to this norm: batch normalisation of a layer that is down to a few channels, all of
them shut by their ReLU, multiplies gradients by hundreds, and in a chain of such layers they overflow. A step whose
gradient's norm is beyond float32 is not taken; a loss that is not finite still ends the job."""


class Batches:
    """Training data on the device; shuffled and augmented batches from a seeded generator."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.problem = problem
        self.device = torch.device(settings.device)
        self.size = min(settings.batch_size, len(problem.x_train))
        self.x = torch.as_tensor(problem.x_train).to(self.device)
        self.y = torch.as_tensor(problem.y_train).to(self.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.augment = augmentation(problem.augment)

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.x), generator=self.generator).to(self.device)
        for index in order[: len(self) * self.size].split(self.size):
            images = self.augment(normalise(self.x[index], self.problem), self.generator)
            yield channels_last(images), self.y[index]


class Trainer:
    """SGD with Nesterov momentum; one cosine schedule to zero over the float steps, a small one over the int8 steps.

    Attributes:
        recipe: optimiser, schedule and recovery.
        module: the network under training; may be replaced during training (``set_module``).
        teacher: network whose logits are distilled, if any.
        gradient_hook: called with the module between the backward pass and the step, to change gradients.
        span: float steps over which the learning rate falls to zero once; all of them unless a method trains in stages.
        steps: optimiser steps of the whole job.
        float_steps: steps before quantisation-aware training.
    """

    def __init__(self, module: nn.Module, problem: Problem, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.device = torch.device(settings.device)
        _make_repeatable(self.device)
        self.recipe = Recipe.of(settings.hyperparameters, settings.epochs, taught=problem.teacher is not None)
        self.batches = Batches(problem, settings)
        self.steps = (settings.epochs - self.recipe.parent_epochs) * len(self.batches)
        self.float_steps = self.steps - round(self.recipe.int8_part * self.steps)
        self._feed: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())
        self.low_precision = has_fast_bf16(self.device)
        self.teacher: nn.Module | None = None
        self.gradient_hook: Callable[[nn.Module], None] | None = None
        self.span = (0, self.float_steps)
        self.class_weights = _class_weights(problem, self.device)
        self.set_module(module)

    def set_module(self, module: nn.Module) -> None:
        """Train this network from here on, with a new optimiser."""
        self.module = module.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            self.recipe.learning_rate,
            MOMENTUM,
            weight_decay=self.recipe.weight_decay,
            nesterov=True,
        )

    def take_step(self, step: int) -> float:
        """Execute an optimiser step, the ``step``-th of the job counted from 0; returns its loss.

        Raises:
            DivergedError: when the loss is not finite.
        """
        if not self.module.training:
            self.module.train()
        if step % len(self.batches) == 0:
            self._feed = iter(self.batches)
        images, labels = next(self._feed)
        for group in self.optimizer.param_groups:
            group["lr"] = self._scheduled_rate(step)
        with self._autocast():
            logits = self.module(images).flatten(1)
        loss = self._loss(logits.float(), images, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"the loss became {value} at step {step} of {self.steps}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.gradient_hook:
            self.gradient_hook(self.module)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), LARGEST_GRADIENT)
        if torch.isfinite(norm):  # one beyond all numbers has no direction; the next batch's has
            self.optimizer.step()
        return value

    def require_finite(self, step: int) -> None:
        """Stop if a parameter is not finite, which the loss need not show.

        Raises:
            DivergedError: naming the parameter.
        """
        for name, parameter in self.module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise DivergedError(f"{name} is not finite after step {step} of {self.steps}")

    def _loss(self, outputs: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        objective, recipe = self.problem.objective, self.recipe
        loss = objective.loss(outputs, inputs, targets, self.class_weights, recipe.label_smoothing)
        if self.teacher is None or not recipe.distillation:
            return loss
        with torch.no_grad(), self._autocast():
            wanted = self.teacher(inputs).flatten(1).float()
        soft = objective.imitation(outputs, wanted, recipe.distillation_temperature)
        return (1 - recipe.distillation) * loss + recipe.distillation * soft

    def _scheduled_rate(self, step: int) -> float:
        if step < self.float_steps:
            start, end = self.span
            warm_up = min(1.0, (step - start + 1) / min(WARM_UP_STEPS, max(1, (end - start) // 10)))
            return self.recipe.learning_rate * warm_up * _cosine((step - start) / (end - start))
        into_int8 = (step - self.float_steps) / (self.steps - self.float_steps)
        return INT8_RATE * self.recipe.learning_rate * _cosine(into_int8)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.low_precision else nullcontext()

    def random_state(self) -> dict[str, torch.Tensor]:
        """State of the generators behind shuffling, augmentation and dropout."""
        states = {"batches": self.batches.generator.get_state(), "torch": torch.get_rng_state()}
        return states | ({"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {})

    def load_random_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the generators from a checkpoint between epochs."""
        self.batches.generator.set_state(state["batches"])
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda" and "cuda" in state:  # not in what was begun on a CPU
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def val_accuracy(self) -> float:
        """Float accuracy on the validation data."""
        with self._autocast():
            return float_accuracy(self.module, self.problem.x_val, self.problem.y_val, self.problem)


def _make_repeatable(device: torch.device) -> None:
    """Let a GPU add up in the same order every time, as a CPU does for one count of threads."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def _class_weights(problem: Problem, device: torch.device) -> torch.Tensor | None:
    if not problem.class_weights:
        return None
    return torch.from_numpy(class_weights(problem.y_train, problem.classes, problem.class_weights)).to(device)


def _cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * done))
