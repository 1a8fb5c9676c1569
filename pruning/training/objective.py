"""Losses and scores by the kind of task; either can be replaced by a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mcu.errors import InputError
from mcu.terms import Metric, TaskKind
from pruning.training.metrics import score

OBJECT_WEIGHT = 8.0
"""How much more a cell with an object weighs in the loss of a grid than an empty one: most are empty."""

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
ScoreFunction = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Objective:
    """Loss and evaluation metric of a network.

    Attributes:
        kind: says what targets are: class numbers ``(N,)``; 0 or 1 for each label ``(N, labels)``; values
            ``(N, values)``; 0 normal or 1 abnormal ``(N,)``, while the inputs themselves are to be reconstructed, or
            ``(N, 2)`` of these and the number of the recording that a sample is part of, which is judged as a whole; or
            a class for each cell ``(N, rows, columns)``, 0 where there is nothing.
        metric: one of ``mcu.score.SUITS`` for this kind.
        loss_function: of outputs ``(N, values)`` and targets (for a reconstruction the inputs, flat), if not the
            default.
        score_function: of targets and outputs ``(N, values)``, higher is better, if not the metric.
        means, deviations: of the values of a regression in training. The network outputs standardised values, because
            all values share one int8 scale; losses and scores get values in their own unit.
    """

    kind: TaskKind = TaskKind.CLASSIFICATION
    metric: str = Metric.ACCURACY
    loss_function: LossFunction | None = None
    score_function: ScoreFunction | None = None
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    def fitted(self, targets: np.ndarray) -> Objective:
        """With the means and deviations of these training targets ``(N, values)``, if they are values."""
        if self.kind is not TaskKind.REGRESSION:
            return self
        values = np.asarray(targets, np.float64)
        deviations = values.std(axis=0)
        usable = np.where(deviations > 0, deviations, 1.0)
        return replace(self, means=tuple(values.mean(axis=0).tolist()), deviations=tuple(usable.tolist()))

    def standardised(self, targets: np.ndarray) -> np.ndarray:
        """Targets as the network outputs them: of a regression deviations from the mean, float32; others as given."""
        if not self.means:
            return targets
        return ((targets - np.asarray(self.means)) / np.asarray(self.deviations)).astype(np.float32)

    @property
    def identity(self) -> list[str]:
        """The parts that influence the trained weights."""
        own = self.loss_function
        named = f"{own.__module__}:{getattr(own, '__qualname__', own)}" if own else ""
        return [str(self.kind), str(self.metric) if self.kind is TaskKind.REGRESSION else "", named]

    def loss(
        self,
        outputs: torch.Tensor,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor | None = None,
        smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean loss of a batch.

        Args:
            outputs: float32 ``(N, values)``, flat.
            inputs: as the network took them.
            targets: see ``kind``.
            weights: of classes, if they differ.
            smoothing: fraction of the label that is spread over all classes.
        """
        if self.kind is TaskKind.RECONSTRUCTION:
            targets = inputs.flatten(1)
        if self.kind is TaskKind.REGRESSION and self.means:
            means, deviations = (outputs.new_tensor(values) for values in (self.means, self.deviations))
            if self.loss_function is not None:
                return self.loss_function(outputs * deviations + means, targets)
            targets = (targets - means) / deviations
        if self.loss_function is not None:
            return self.loss_function(outputs, targets)
        if self.kind is TaskKind.CLASSIFICATION:
            return functional.cross_entropy(outputs, targets, weights, label_smoothing=smoothing)
        if self.kind is TaskKind.MULTI_LABEL:
            return functional.binary_cross_entropy_with_logits(outputs, targets)
        if self.kind is TaskKind.GRID:
            cells = outputs.view(len(outputs), -1, targets[0].numel())
            each = torch.ones(cells.shape[1], device=outputs.device)
            each[1:] = OBJECT_WEIGHT
            return functional.cross_entropy(cells, targets.flatten(1), each)
        return (functional.l1_loss if self.metric == Metric.MAE else functional.mse_loss)(outputs, targets)

    def imitation(self, outputs: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
        """Distillation loss towards a teacher's outputs (Hinton et al., 2015, for logits of classes)."""
        if self.kind is not TaskKind.CLASSIFICATION:
            return functional.mse_loss(outputs, wanted)
        soft = functional.kl_div(
            functional.log_softmax(outputs / temperature, 1), functional.softmax(wanted / temperature, 1),
            reduction="batchmean",
        )  # fmt: skip
        return soft * temperature**2

    def score(self, targets: np.ndarray, outputs: np.ndarray, inputs: np.ndarray) -> float:
        """Score of outputs; higher is better, errors are negated.

        Args:
            targets: see ``kind``.
            outputs: ``(N, values)``, flat.
            inputs: ``(N, ...)`` as the network took them; used only for reconstruction.
        """
        if self.kind is TaskKind.RECONSTRUCTION:
            error = np.square(outputs - inputs.reshape(outputs.shape)).mean(axis=1)
            if targets.ndim == 2:
                targets, error = by_recording(targets, error)
            return auc(targets, error) if self.score_function is None else _own(self.score_function, targets, error)
        if self.means:
            outputs = outputs * np.asarray(self.deviations) + np.asarray(self.means)
        if self.score_function is not None:
            return _own(self.score_function, targets, outputs)
        if self.kind is TaskKind.CLASSIFICATION:
            return score(targets, outputs.argmax(1), outputs.shape[1], Metric(self.metric))
        if self.kind is TaskKind.MULTI_LABEL:
            return float(np.mean([average_precision(targets[:, k], outputs[:, k]) for k in range(outputs.shape[1])]))
        if self.kind is TaskKind.GRID:
            return cell_f1(targets.reshape(len(targets), -1), _cells(outputs, targets))
        return -float(np.abs(outputs - targets).mean()) if self.metric == Metric.MAE else r2(targets, outputs)


def by_recording(targets: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mean errors ``(recordings,)`` of samples with ``targets`` ``(N, 2)`` of label and recording."""
    _, first, place = np.unique(targets[:, 1], return_index=True, return_inverse=True)
    return targets[first, 0], np.bincount(place, error) / np.bincount(place)


def auc(abnormal: np.ndarray, suspicion: np.ndarray) -> float:
    """Area under the ROC curve: probability that an abnormal sample scores above a normal one (Mann-Whitney).

    0.5 if one kind is missing.
    """
    positive = abnormal.astype(bool)
    count, rest = int(positive.sum()), int((~positive).sum())
    if not count or not rest:
        return 0.5
    from scipy.stats import rankdata  # here, as it takes longer to import than a network to trace

    return float((rankdata(suspicion)[positive].sum() - count * (count + 1) / 2) / (count * rest))


def average_precision(present: np.ndarray, outputs: np.ndarray) -> float:
    """Average precision of a label: mean over its positive samples of the precision down to each; 0 if there is none.

    Samples of equal output, of which an int8 model has many, are called together.
    """
    order = np.argsort(-outputs, kind="stable")
    hits = np.cumsum(present[order].astype(bool))
    if not hits[-1]:
        return 0.0
    ends = np.flatnonzero(np.append(np.diff(outputs[order]) != 0, True))
    precision = hits[ends] / (ends + 1)
    return float((np.diff(hits[ends], prepend=0) * precision).sum() / hits[-1])


def r2(targets: np.ndarray, outputs: np.ndarray) -> float:
    """Coefficient of determination, mean over the values; 0 for a constant prediction of the mean."""
    wanted = np.asarray(targets, np.float64)
    rest = np.square(wanted - outputs).sum(axis=0)
    whole = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    return float(np.mean(1 - rest / np.where(whole > 0, whole, 1.0)))


def cell_f1(targets: np.ndarray, called: np.ndarray) -> float:
    """F1 of cells with an object, correct if the class is correct; ``(N, cells)`` each, 0 is empty."""
    right = int(((called == targets) & (targets > 0)).sum())
    wrong, missed = int(((called > 0) & (called != targets)).sum()), int(((targets > 0) & (called != targets)).sum())
    return 2 * right / (2 * right + wrong + missed) if right else 0.0


def _cells(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    called: np.ndarray = outputs.reshape(len(outputs), -1, targets[0].size).argmax(1)
    return called


def _own(function: ScoreFunction, targets: np.ndarray, outputs: np.ndarray) -> float:
    value: Any = function(targets, outputs)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"training.score: returned {type(value).__name__}, must be a number") from None
    if not np.isfinite(number):
        raise InputError(f"training.score: returned {number}, must be finite; higher is better")
    return number
