"""The end of every job: recovery, quantisation-aware training, export, and the check of the file's bytes."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch

from mcu.cost.deployment import write_deployment
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from pruning.engine import surgery
from pruning.training.averaging import WeightAverage, recalibrate
from pruning.training.checkpoint import load_optimizer_state
from pruning.training.evaluation import int8_accuracy, normalise
from pruning.training.job import Job
from pruning.training.parent import teacher_of
from pruning.training.problem import Outcome, require_within
from pruning.training.run import Steps
from pruning.training.trained import TrainedNetwork

CALIBRATION_IMAGES = 512

WATCHED_IMAGES = 64
"""Enough to tell whether a layer answers the same to all, in the memory of a usual batch."""


def recover(job: Job, phase: str) -> Steps:
    """Train the network to the end of the float steps; averaged weights replace the last ones if they are better."""
    if job.saved and job.saved["folded"]:
        return  # the checkpoint's network has been through all this
    samples = _samples(job, WATCHED_IMAGES)
    if job.once("idle"):
        job.network.revive(samples)
        job.network.add_idle()
    if job.problem.teacher:
        job.trainer.teacher = teacher_of(job.problem, job.settings, job.problem.teacher.tensors)
    recipe = job.trainer.recipe
    average = None
    if recipe.averaging:
        average = WeightAverage(job.network.tensors(), recipe.averaging * len(job.trainer.batches))
        job.part("average", average)
    for _ in job.train(phase, job.float_steps):
        yield
        if (job.step + 1) % len(job.trainer.batches) == 0:
            job.network.revive(samples)
        if average:
            average.update()
    if average:
        _choose(job, average)
        del job.parts["average"]
    if recipe.recalibration:
        recalibrate(job.network.module, job.problem)


def _choose(job: Job, average: WeightAverage) -> None:
    """The last weights or their mean, by validation accuracy."""
    last = job.trainer.val_accuracy()
    average.swap()
    if job.trainer.val_accuracy() < last:
        average.swap()


def finish(job: Job) -> Generator[None, None, Outcome]:
    """Quantise, continue with quantisation-aware training, and check the better model against the budget.

    The models before and after that training are both exported; int8 validation accuracy decides.
    """
    network = FoldedNet(job.network.graph, job.network.module)
    calibrate(network, _samples(job, CALIBRATION_IMAGES))
    used_channels = [np.arange(width) for width in job.network.widths]
    best = surgery.narrowed(network, used_channels)
    model = quantise(best)
    if job.step < job.steps or (job.saved and job.saved["folded"]):  # killed after the last step, it is done already
        yield from _train_int8(job, network)
        trained = surgery.narrowed(network, used_channels)
        again = quantise(trained)
        if _val_accuracy(job, again) >= _val_accuracy(job, model):
            best, model = trained, again
    best.fake_quantise(False)
    job.network.drop_idle()
    return _outcome(job, best, model)


def _samples(job: Job, most: int) -> torch.Tensor:
    """Normalised training samples from all over the set, which may come sorted by class."""
    stride = max(1, len(job.problem.x_train) // most)
    samples = np.ascontiguousarray(job.problem.x_train[::stride][:most])
    return normalise(torch.as_tensor(samples).to(job.trainer.device), job.problem)


def _train_int8(job: Job, network: FoldedNet) -> Steps:
    network.fake_quantise(True)
    job.set_module(network)
    job.folded = network
    if job.saved and job.saved["folded"]:
        network.load_state_dict(job.saved["folded"])
        load_optimizer_state(job.trainer.optimizer, job.saved["optimizer"])
    yield from job.train("int8", job.steps)


def _val_accuracy(job: Job, model: Int8Model) -> float:
    return int8_accuracy(model, job.problem.x_val, job.problem.y_val, job.problem)


def _outcome(job: Job, network: FoldedNet, model: Int8Model) -> Outcome:
    """The model with its file, once the measured bytes are within the budget."""
    data = write_deployment(model)
    used = job.problem.runtime.measure(model, data)
    require_within(job.budget, job.charge(model, used) if job.charge else used, job.method)
    graph, dense = job.network.graph, job.network.model.graph
    return Outcome(
        model,
        data,
        network,
        graph.by_group(graph.channels),
        dense.by_group(dense.channels),
        job.network.origin or job.network.dense,
        job.trajectory,
        job.shared_seconds,
        TrainedNetwork.of(job.network, job.edits),
    )
