"""Pre-training of the dense network, shared between methods that start with the same steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruning.training.checkpoint import read_checkpoint, write_checkpoint
from pruning.training.job import Job
from pruning.training.parent import locked, shared_folder
from pruning.training.recipe import TRAINING
from pruning.training.run import Steps

PRETRAIN = 0.4
"""Fraction of the float steps before the first compression, unless ``pretrain`` says so."""


def pretrained_steps(hyperparameters: Mapping[str, Any], float_steps: int) -> int:
    """Steps before the first compression, by the hyperparameter ``pretrain``."""
    return round(float(hyperparameters.get("pretrain", PRETRAIN)) * float_steps)


def pretrain(job: Job, until: int, prepare: Callable[[], None] | None = None, *, kind: str = "plain") -> Steps:
    """Train the dense network up to step ``until``; whole epochs that another job has trained are reused.

    Jobs of a sweep that differ only in their method or budget start with the same steps. The first one saves its state
    (weights, optimiser, random generators) in the folder of the parents; the others resume from it, with bit-identical
    results. The training time is charged to each of them.

    Args:
        job: one that has not changed its network yet.
        until: optimiser step.
        prepare: called before any step of this job; may set ``job.trainer.gradient_hook``.
        kind: identifies what ``prepare`` does, with its settings; jobs of different kinds share nothing.
    """
    epoch = len(job.trainer.batches)
    whole = until // epoch * epoch
    with locked(folder := _folder(job, whole, kind)):
        if job.step < whole:
            yield from _take_or_train(job, whole, prepare, folder)
    if job.step < until:
        yield from _train(job, until, prepare)
    job.shared_seconds += float(job.notes.get("taken_seconds", 0.0))  # of this attempt or of the one it goes on from


def _take_or_train(job: Job, whole: int, prepare: Callable[[], None] | None, folder: Path | None) -> Steps:
    if folder and (stored := read_checkpoint(folder)):
        job.load_state_dict(stored)
        job.notes["taken_seconds"] = float(stored["seconds"])
        return
    seconds = yield from _train(job, whole, prepare)
    if folder:
        write_checkpoint(folder, job.state_dict() | {"seconds": seconds})


def _train(job: Job, until: int, prepare: Callable[[], None] | None) -> Generator[None, None, float]:
    """Take the steps; seconds they took, those of an attempt that was cut off included."""
    if prepare:
        prepare()
    started, before = time.monotonic(), float(job.notes.get("seconds", 0.0))
    for _ in job.train("pre-training", until):
        yield
        job.notes["seconds"] = before + time.monotonic() - started
    job.trainer.gradient_hook = None
    return float(job.notes.pop("seconds", 0.0))


def _folder(job: Job, steps: int, kind: str) -> Path | None:
    """Where the state after so many steps belongs."""
    chosen = job.hyperparameters
    common = replace(job.settings, hyperparameters={name: chosen[name] for name in TRAINING if name in chosen})
    problem = job.problem
    return shared_folder(problem, common, pretrained=[kind, steps, list(problem.frozen), problem.round_to])
