"""Words with a fixed set of values that several rooms share. Light: imports nothing."""

from __future__ import annotations

from enum import StrEnum


class RuntimeName(StrEnum):
    """``tflm``: bytes of the .tflite and of the arena; ``firmware``: flash and RAM of the linked C program."""

    TFLM = "tflm"
    FIRMWARE = "firmware"


class TaskKind(StrEnum):
    """What a network has to say about a sample."""

    CLASSIFICATION = "classification"
    MULTI_LABEL = "multi-label"
    REGRESSION = "regression"
    RECONSTRUCTION = "reconstruction"
    GRID = "grid"


class Metric(StrEnum):
    """What a network is judged by; ``mcu.score`` has title, unit and direction of each.

    The share of all samples that is right, the mean F1 of the classes; the mean over labels of the average precision;
    the share of variance that is explained, the mean absolute error; the area under the curve of an anomaly score; the
    F1 of cells with an object.
    """

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    MEAN_AVERAGE_PRECISION = "mean_average_precision"
    R2 = "r2"
    MAE = "mae"
    AUC = "auc"
    CELL_F1 = "cell_f1"


class Augmentation(StrEnum):
    """How training batches are varied; `pruning.training.augment` does it."""

    NONE = "none"
    SHIFT = "shift"
    SHIFT_FLIP = "shift_flip"
    TIME_SHIFT = "time_shift"
    SPEC_AUGMENT = "spec_augment"
    JITTER = "jitter"


class TrialState(StrEnum):
    """Where a trial stands; all but the first two are final."""

    PLANNED = "planned"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    CANNOT = "cannot"


FINAL_STATES = tuple(TrialState)[2:]
MEASURED = (TrialState.COMPLETE, TrialState.INFEASIBLE)
"""States of the trials that left a model."""
