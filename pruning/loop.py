"""A sweep's trial trained by the user's own loop: any built-in method requests steps, the loop executes them.

def train(pruner, trial):
    optimizer = torch.optim.AdamW(pruner.parameters(), trial.hyperparameters["learning_rate"])
    pruner.attach(optimizer)
    for epoch in range(trial.epochs):
        for x, y in DataLoader(trial.train, trial.batch_size, shuffle=True, drop_last=True):
            ...
            pruner.step()
        trial.report(epoch + 1, score)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mcu.budget import Budget
from mcu.errors import InputError
from pruning.exported import ExportedModel
from pruning.methods import Compression, Method
from pruning.pruner import InfeasibleError, Pruner
from pruning.training.checkpoint import StateDict, read_checkpoint, write_checkpoint
from pruning.training.evaluation import int8_accuracy, normalise
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Outcome, Problem, Progress, Report, Settings, StoppedError
from pruning.training.run import Rebuild, Run
from pruning.training.trained import TrainedNetwork

Loop = Callable[[Pruner, "Trial"], object]


class Samples(Dataset[tuple[torch.Tensor, Any]]):
    """Samples of a split as the network takes them, with their labels; values of a regression as it gives them."""

    def __init__(self, x: np.ndarray, y: np.ndarray, problem: Problem) -> None:
        self.x, self.y, self.problem = x, problem.objective.standardised(y), problem

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        """Input float32 ``(C, H, W)``, normalised, and label."""
        x = torch.as_tensor(np.ascontiguousarray(self.x[index : index + 1]))
        return normalise(x, self.problem)[0], self.y[index]


@dataclass
class Trial:
    """What a loop is given.

    Attributes:
        train, val: samples and labels as torch datasets. Values of a regression are deviations from the mean of the
            training targets in standard deviations, which is what the network's outputs are read as.
        epochs, batch_size, seed, device: of ``[training]``; ``pruner.step`` is to be called ``steps`` times.
        hyperparameters: what the sampler chose.
        state: the last ``state`` given to ``report`` before an interruption; None at the start.
    """

    train: Samples
    val: Samples
    epochs: int
    batch_size: int
    seed: int
    device: str
    steps: int
    hyperparameters: Mapping[str, Any]
    state: StateDict | None = None
    _report: Callable[[float, float, StateDict | None], None] = field(default=lambda *_: None, repr=False)

    def report(self, epochs_done: float, score: float, state: StateDict | None = None) -> None:
        """Report progress to the sweep, after every epoch.

        Args:
            epochs_done: passes over the training data so far.
            score: on validation data, by the sweep's metric; higher is better.
            state: what the loop needs to resume from here: tensors and plain values, such as
                ``{"epoch": 3, "optimizer": optimizer.state_dict()}``. The pruner's own state is saved with it.

        Raises:
            StoppedError: when the sweep's stop rule ends the trial; do not catch it.
        """
        self._report(epochs_done, score, state)


class LoopJob(Job):
    """A job whose steps the user's loop executes; it reports and saves a checkpoint when the loop calls ``report``."""

    phase = ""
    can_try = False
    """The loop's loss, data augmentation and optimiser are the user's, so no trial would be like it."""

    def stepped(self, phase: str) -> None:
        """No action: the loop reports."""
        self.phase = phase

    def state_dict(self) -> StateDict:
        """The state without that of the built-in trainer."""
        return Run.state_dict(self)

    def load_state_dict(self, state: StateDict, rebuild: Rebuild | None = None) -> None:
        """As ``Run``."""
        self.trainer.gradient_hook = None  # whatever the method began with
        Run.load_state_dict(self, state, rebuild)


def run_loop(
    loop: Loop, method: Method, problem: Problem, budget: Budget, settings: Settings, report: Report
) -> Outcome | Infeasible:
    """Train with the user's loop, prune with a method, export.

    Raises:
        InputError: if the method cannot be driven by a loop, or the loop ended before the widths were final.
        StoppedError: when a report is answered with False.
    """
    if not isinstance(method, Compression):
        raise InputError(
            f"[training] loop: the method {method.name!r} has its own training loop; allowed are the built-in methods"
        )
    if settings.hyperparameters.get("parent_epochs"):
        raise InputError("[training] loop: hyperparameters.parent_epochs needs the built-in loop; leave it out")
    settings = method.settings_for(problem, settings)
    without_trials = {**settings.hyperparameters, "halving": False}
    if refusal := method.refuse(problem, budget, replace(settings, hyperparameters=without_trials)):
        return refusal
    folder = settings.checkpoint
    saved = read_checkpoint(folder) if folder else None
    job = LoopJob(problem, budget, replace(settings, checkpoint=None, parents=None), report, method.name)
    job.network.optimizers = []
    pruner = Pruner.over(job, method).to(settings.device)
    if saved:
        pruner.load_state_dict(saved["pruner"])

    def told(epochs_done: float, score: float, state: StateDict | None) -> None:
        if folder and state is not None:
            write_checkpoint(folder, {"pruner": pruner.state_dict(), "loop": state})
        if not report(Progress(job.step, epochs_done, job.phase, score, pruner.resources)):
            raise StoppedError(f"stopped by the rule after {epochs_done:g} of {settings.epochs} epochs")

    trial = Trial(
        Samples(problem.x_train, problem.y_train, problem), Samples(problem.x_val, problem.y_val, problem),
        settings.epochs, job.trainer.batches.size, settings.seed, settings.device, job.steps, settings.hyperparameters,
        saved["loop"] if saved else None, told,
    )  # fmt: skip
    try:
        loop(pruner, trial)
    except InfeasibleError as error:
        return error.infeasible
    if not pruner.landed:
        raise InputError(
            f"[training] loop: ended after {job.step} of {job.steps} calls of pruner.step(), channels are not final; "
            "call it after every step of the optimizer"
        )
    return method.conclude(job, _outcome(pruner, job, problem))


def _outcome(pruner: Pruner, job: Job, problem: Problem) -> Outcome:
    """The model as the loop left it, or as it was before int8 training if that validates better."""
    stride = max(1, len(problem.x_train) // 512)
    samples = torch.as_tensor(np.ascontiguousarray(problem.x_train[::stride][:512]))
    model = pruner.export(calibration=normalise(samples, problem))
    if pruner.before_int8 and _score(pruner.before_int8, problem) > _score(model, problem):
        model = pruner.before_int8
    widths, dense = pruner.widths, job.network.model.graph
    job.network.drop_idle()
    return Outcome(
        model.model,
        model.data,
        model.network,
        widths,
        dense.by_group(dense.channels),
        job.network.origin or job.network.dense,
        job.trajectory,
        job.shared_seconds,
        trained=TrainedNetwork.of(job.network, job.edits),
    )


def _score(model: ExportedModel, problem: Problem) -> float:
    return int8_accuracy(model.model, problem.x_val, problem.y_val, problem)
