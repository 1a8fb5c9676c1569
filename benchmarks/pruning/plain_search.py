"""Successive halving over plain networks for the 10 KB corner: where ``micro-cnn`` has its sizes from.

    OMP_NUM_THREADS=1 python benchmarks/pruning/plain_search.py IMAGES SCORES.jsonl

IMAGES is a folder as the task ``image-folder`` reads it, here CIFAR-10 with ``train/`` and ``test/``. Candidates are
random stacks of a convolution and three to six blocks whose int8 model is within the bounds. Scores of candidates that
are in SCORES.jsonl are not measured again. Validation accuracy decides; no test data are used. The sizes of
``micro-cnn`` are of a run that was ended after the first round and two candidates of the second, the two best.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.training.problem import Problem, Settings
from pruning.training.steps import Trainer
from search_spaces.choices import TaskChoice
from search_spaces.networks.layers import conv_bn, initialise, network, same_size, separable
from search_spaces.tasks import Task, load_task

FLASH, MACS = 10 * 1024, 384_000
BOUNDS = Budget(flash=FLASH, sram=15_400, macs=MACS)
ROUNDS = ((20, 2), (6, 6), (2, 18))
"""Candidates and epochs."""

IMAGES = 10_000


@dataclass(frozen=True)
class Stack:
    """A plain network: for each layer its kind, channels and stride; the first is a convolution."""

    layers: tuple[tuple[str, int, int], ...]

    def macs(self, input_shape: tuple[int, int, int]) -> int:
        """Multiply-accumulates of its convolutions."""
        inputs, *size = input_shape
        here, total = (size[0], size[1]), 0
        for kind, outputs, stride in self.layers:
            here = same_size(here, (stride, stride))
            total += here[0] * here[1] * inputs * (9 + outputs if kind == "separable" else 9 * outputs)
            inputs = outputs
        return total

    def build(self, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """The network with initialised weights."""
        inputs, *size = input_shape
        here = (size[0], size[1])
        modules: list[nn.Module] = []
        for kind, outputs, stride in self.layers:
            block = separable if kind == "separable" else conv_bn
            modules.append(block(inputs, outputs, here, stride=stride))
            here, inputs = same_size(here, (stride, stride)), outputs
        built = network(modules, inputs, classes)
        initialise(built)
        return built


def drawn(generator: np.random.Generator) -> Stack:
    """A random stack: widths grow, resolution falls four to sixteen times."""
    depth = int(generator.integers(3, 7))
    strides = [int(generator.choice([1, 2]))] + [1] * depth
    for place in generator.choice(np.arange(1, depth + 1), size=int(generator.integers(1, 4)), replace=False):
        strides[place] = 2
    channels = np.sort(np.exp(generator.uniform(np.log(6), np.log(64), depth + 1)).astype(int) // 2 * 2)
    kinds = ["full", *generator.choice(["full", "separable"], size=depth, p=[0.3, 0.7])]
    return Stack(tuple(zip(map(str, kinds), map(int, channels), strides, strict=True)))


def candidates(count: int, shape: tuple[int, int, int], classes: int) -> list[Stack]:
    """The first ``count`` random stacks that are within the bounds and use half of the flash or the operations."""
    generator = np.random.default_rng(0)
    found: list[Stack] = []
    while len(found) < count:
        stack = drawn(generator)
        if stack in found or not MACS / 2 < stack.macs(shape) <= MACS:  # cheaper than tracing it
            continue
        built = stack.build(shape, classes)
        model = ResourceModel(trace(built.eval(), shape).graph)
        used = model.exact(model.dense_widths)
        if BOUNDS.admits(used) and used.flash > FLASH / 2:
            found.append(stack)
    return found


def score(stack: Stack, task: Task, epochs: int) -> float:
    """Validation accuracy of the float network after so many epochs."""
    torch.manual_seed(0)
    mean, std = task.normalise
    problem = Problem(
        lambda: stack.build(task.input_shape, task.outputs), task.input_shape, task.outputs,
        task.x_train, task.y_train, task.x_val, task.y_val, tuple(mean), tuple(std), task.augment,
    )  # fmt: skip
    trainer = Trainer(problem.network(), problem, Settings(epochs=epochs, hyperparameters={"learning_rate": 0.1}))
    for step in range(trainer.steps):
        trainer.take_step(step)
    return float(trainer.val_accuracy())


def main() -> None:
    """Run what is missing, print the ranking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("scores", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    options: dict[str, Any] = {"train_limit": IMAGES, "val_limit": 2_000}
    task = load_task(TaskChoice(name="image-folder", data=str(chosen.images), options=options))
    there = [json.loads(line) for line in chosen.scores.read_text().splitlines()] if chosen.scores.exists() else []
    known = {(json.dumps(row["layers"]), row["epochs"]): row["score"] for row in there}
    stacks = candidates(ROUNDS[0][0], task.input_shape, task.outputs)
    for count, epochs in ROUNDS:
        scored = []
        for stack in stacks[:count]:
            key = json.dumps([list(layer) for layer in stack.layers]), epochs
            if key not in known:
                known[key] = score(stack, task, epochs)
                with chosen.scores.open("a") as file:
                    print(json.dumps({"layers": stack.layers, "epochs": epochs, "score": known[key]}), file=file)
            scored.append((known[key], stack))
        stacks = [stack for _, stack in sorted(scored, key=lambda entry: -entry[0])]
        print(f"{epochs} epochs: best {max(scored, key=lambda entry: entry[0])}", flush=True)


if __name__ == "__main__":
    main()
