"""Dense parents: trained once per (data, network, seed, schedule) and shared by every job that needs the same one."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock

from mcu.budget import Budget
from mcu.int8.folded_net import FoldedNet
from pruning.engine import surgery
from pruning.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from pruning.training.job import Job
from pruning.training.problem import Problem, Report, Settings
from pruning.training.recipe import Recipe
from pruning.training.run import Rebuild, Steps


@dataclass(frozen=True)
class Parent:
    """A trained dense network.

    Attributes:
        tensors: every parameter and running statistic by path.
        seconds: training time, also if another job trained it.
        shared: whether another job had trained it.
    """

    tensors: dict[str, torch.Tensor]
    seconds: float
    shared: bool


def begin(
    problem: Problem,
    budget: Budget,
    settings: Settings,
    report: Report,
    method: str,
    rebuild: Rebuild | None = None,
) -> Job:
    """A job of a method with the dense parent that its recipe requires: as teacher, as initial weights, or both.

    Epochs of the parent count as epochs of the job, whether it was trained here or by an earlier job. ``rebuild`` is
    for methods that change the structure of the network: see ``Run.load_state_dict``.
    """
    recipe = Recipe.of(settings.hyperparameters, settings.epochs, taught=problem.teacher is not None)
    if not recipe.parent_epochs:
        return Job(problem, budget, settings, report, method, rebuild)
    parent = _parent(problem, settings, report, recipe)
    teacher = teacher_of(problem, settings, parent.tensors) if recipe.distillation else None
    job = Job(problem, budget, settings, report, method, rebuild)
    job.shared_seconds = parent.seconds if parent.shared else 0.0
    job.trainer.teacher = teacher
    if recipe.start == "parent" and job.saved is None:
        surgery.fill(job.network.tensors(), parent.tensors)
    return job


def teacher_of(problem: Problem, settings: Settings, tensors: Mapping[str, torch.Tensor]) -> FoldedNet:
    """The dense network of these weights with its batch normalisation folded: the cheapest way to logits."""
    traced = problem.constraints.trace(problem.network())
    surgery.fill(surgery.layer_tensors(traced.module, traced.graph), tensors)
    teacher = FoldedNet(traced.graph, traced.module).to(settings.device).requires_grad_(False).eval()
    return teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _parent(problem: Problem, settings: Settings, report: Report, recipe: Recipe) -> Parent:
    """The parent out of the folder, or trained now; jobs that want the same one wait for the first."""
    plain = {"learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    schedule = replace(settings, epochs=recipe.parent_epochs, hyperparameters=plain | {"int8_part": 0.0})
    folder = shared_folder(problem, schedule)
    with locked(folder):
        if folder and (stored := read_checkpoint(folder / "trained")):
            return Parent(stored["network"], float(stored["seconds"]), shared=True)
        parent = _train(problem, replace(schedule, checkpoint=folder), report)
        if folder:
            write_checkpoint(folder / "trained", {"network": parent.tensors, "seconds": parent.seconds})
            remove_checkpoint(folder)
    return parent


def _train(problem: Problem, schedule: Settings, report: Report) -> Parent:
    started = time.monotonic()
    job = Job(problem, Budget(), schedule, report, "parent")
    before = float(job.notes.get("seconds", 0.0))  # of an attempt that was cut off

    def timed() -> Steps:
        for _ in job.train("parent", job.steps):
            yield
            job.notes["seconds"] = before + time.monotonic() - started

    job.drive(timed())
    tensors = {name: tensor.detach().clone() for name, tensor in job.network.tensors().items()}
    return Parent(tensors, float(job.notes["seconds"]), shared=False)


def shared_folder(problem: Problem, schedule: Settings, **more: object) -> Path | None:
    """Folder of shared training, named by a hash of everything that decides its weights; None: nothing is shared.

    Args:
        problem: data and network.
        schedule: how the network is trained.
        more: what else decides, as plain JSON.
    """
    if schedule.parents is None or not problem.identity:
        return None
    decisive = asdict(replace(schedule, parents=None, checkpoint=None)) | {
        "problem": problem.identity,
        "augment": problem.augment,
        "class_weights": problem.class_weights,
        "objective": problem.objective.identity,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **more,
    }
    return schedule.parents / hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Hold the folder's lock: jobs that need the same training wait for the job that runs it."""
    if folder is None:
        yield
        return
    os.makedirs(folder, exist_ok=True)
    with FileLock(folder / "lock"):
        yield
