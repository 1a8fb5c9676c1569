"""Metrics of a classifier besides top-1, and class weights for imbalanced data. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.terms import Metric

SHOWN_CLASSES = 100
"""With more classes than these the confusion matrix is left out of a score card."""


@dataclass(frozen=True)
class ClassScore:
    """Metrics of one class; a ratio with denominator 0 is 0.

    Attributes:
        precision: fraction of the samples predicted as this class that are of this class.
        recall: fraction of the samples of this class that are predicted as this class.
        f1: their harmonic mean.
        samples: of this class.
    """

    precision: float
    recall: float
    f1: float
    samples: int


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(classes, classes)``: row is the label, column the prediction.

    Raises:
        InputError: when the lengths differ or a value is not a class number.
    """
    if labels.shape != predicted.shape or labels.ndim != 1:
        raise InputError(f"scores: {labels.shape} labels and {predicted.shape} predictions: must be two equal lengths")
    both = np.concatenate([labels, predicted])
    if len(both) and (both.min() < 0 or both.max() >= classes):
        raise InputError(f"scores: classes go from {both.min()} to {both.max()}, must be 0 to {classes - 1}")
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_scores(counts: np.ndarray) -> list[ClassScore]:
    """Precision, recall and F1 of every class from a confusion matrix."""
    right, called, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return [
        ClassScore(_ratio(hit, of_called), _ratio(hit, of_there), _ratio(2 * hit, of_called + of_there), int(of_there))
        for hit, of_called, of_there in zip(right, called, there, strict=True)
    ]


def accuracy(counts: np.ndarray) -> float:
    """Top-1: the fraction of all samples on the diagonal of a confusion matrix."""
    return _ratio(np.trace(counts), counts.sum())


def macro_f1(counts: np.ndarray) -> float:
    """Unweighted mean F1 of the classes (Sokolova & Lapalme, 2009)."""
    return float(np.mean([score.f1 for score in class_scores(counts)]))


def score(labels: np.ndarray, predicted: np.ndarray, classes: int, metric: Metric) -> float:
    """A metric of predictions, 0..1. Errors as :func:`confusion`."""
    counts = confusion(labels, predicted, classes)
    return accuracy(counts) if metric is Metric.ACCURACY else macro_f1(counts)


def class_weights(labels: np.ndarray, classes: int, strength: float = 1.0) -> np.ndarray:
    """Weight of each class in the loss, float32 ``(classes,)``, mean 1 over the samples.

    Args:
        strength: 1 gives every class the same total weight, 0 every sample the same weight; weights are ``count **
            -strength``.

    Raises:
        InputError: when a class has no sample or the strength is not in 0..1.
    """
    counts = np.bincount(labels, minlength=classes)
    if len(counts) > classes or not counts.all():
        raise InputError(f"class weights: every one of {classes} classes needs a sample, counts are {counts.tolist()}")
    if not 0 <= strength <= 1:
        raise InputError(f"class weights: strength = {strength}: must be 0 to 1")
    weights = counts.astype(np.float64) ** -strength
    return np.asarray(weights * (counts.sum() / (weights * counts).sum()), np.float32)


def score_card(counts: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """A confusion matrix and its metrics, as plain values: accuracy and macro F1, then class by class."""
    scores = class_scores(counts)
    return {
        "accuracy": accuracy(counts),
        "macro_f1": macro_f1(counts),
        "classes": [{"name": name, **asdict(of_class)} for name, of_class in zip(classes, scores, strict=True)],
        **({"confusion": counts.tolist()} if len(classes) <= SHOWN_CLASSES else {}),
    }


def _ratio(count: float, total: float) -> float:
    return float(count) / float(total) if total else 0.0
