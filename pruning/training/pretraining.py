"""Training of the dense network before it is pruned: methods that begin alike train it once between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mcu.errors import InputError
from pruning.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from pruning.training.parent import locked, shared_folder
from pruning.training.problem import Settings
from pruning.training.recipe import TRAINING
from pruning.training.run import Run

PRETRAIN = 0.4
"""Part of the float steps before the first compression, unless ``pretrain`` says so."""


def pretrained_steps(settings: Settings, float_steps: int) -> int:
    """Steps before the first compression, by the hyperparameter ``pretrain``.

    Raises:
        InputError: for a part that is not allowed.
    """
    part = float(settings.hyperparameters.get("pretrain", PRETRAIN))
    if not 0 <= part < 1:
        raise InputError(f"hyperparameters.pretrain = {part}: allowed is 0 to less than 1")
    return round(part * float_steps)


def pretrain(run: Run, until: int, prepare: Callable[[], None] | None = None, *, kind: str = "plain") -> None:
    """Train the dense network up to step ``until``; whole epochs that another job has trained are taken from it.

    Jobs of a sweep that differ in their method or budget only begin with the same steps. The first one leaves its
    state (weights, momenta, generators) in the folder of the parents, the others go on from there and end with the bits
    they would have ended with. The time it took is charged to every one of them.

    Args:
        run: a job that has not changed its network yet.
        until: optimiser step.
        prepare: called before steps are taken here; may set ``run.trainer.adjust``.
        kind: what ``prepare`` does, with all that decides it; jobs of different kinds share nothing.
    """
    epoch = len(run.trainer.batches)
    whole = until // epoch * epoch
    with locked(folder := _folder(run, whole, kind)):
        if run.trainer.step < whole:
            _take_or_train(run, whole, prepare, folder)
    if run.trainer.step < until:
        _train(run, until, prepare)
    run.shared_seconds += float(run.notes.get("taken_seconds", 0.0))  # of this attempt or of the one it goes on from


def _take_or_train(run: Run, whole: int, prepare: Callable[[], None] | None, folder: Path | None) -> None:
    if folder and (stored := read_checkpoint(folder)):
        run.go_on(stored)
        run.notes["taken_seconds"] = float(stored.state["seconds"])
        return
    seconds = _train(run, whole, prepare)
    if folder:
        state = run.checkpoint()
        write_checkpoint(folder, Checkpoint(state.tensors, state.state | {"seconds": seconds}))


def _train(run: Run, until: int, prepare: Callable[[], None] | None) -> float:
    """Take the steps; seconds they took, those of an attempt that was cut off included."""
    if prepare:
        prepare()
    started, before = time.monotonic(), float(run.notes.get("seconds", 0.0))
    for _ in run.train("pre-training", until):
        run.notes["seconds"] = before + time.monotonic() - started
    run.trainer.adjust = None
    return float(run.notes.pop("seconds", 0.0))


def _folder(run: Run, steps: int, kind: str) -> Path | None:
    """Where the state after so many steps belongs."""
    chosen = run.settings.hyperparameters
    common = replace(run.settings, hyperparameters={name: chosen[name] for name in TRAINING if name in chosen})
    problem = run.problem
    return shared_folder(problem, common, pretrained=[kind, steps, list(problem.frozen), problem.multiple])
