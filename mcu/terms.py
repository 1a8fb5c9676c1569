"""Enumerations that several packages share. Imports nothing."""

from __future__ import annotations

from enum import StrEnum


class RuntimeName(StrEnum):
    """``tflm``: bytes of the .tflite and of the arena; ``firmware``: flash and RAM of the linked C program."""

    TFLM = "tflm"
    FIRMWARE = "firmware"


class TaskKind(StrEnum):
    """Kind of a task: what the network predicts for a sample."""

    CLASSIFICATION = "classification"
    MULTI_LABEL = "multi-label"
    REGRESSION = "regression"
    RECONSTRUCTION = "reconstruction"
    GRID = "grid"


class Metric(StrEnum):
    """Evaluation metric of a network; ``mcu.score`` has title, unit and direction of each.

    In order: top-1 accuracy, macro F1; mean average precision over labels; coefficient of determination, mean absolute
    error; area under the ROC curve of an anomaly score; F1 of grid cells with an object.
    """

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    MEAN_AVERAGE_PRECISION = "mean_average_precision"
    R2 = "r2"
    MAE = "mae"
    AUC = "auc"
    CELL_F1 = "cell_f1"


class Augmentation(StrEnum):
    """Data augmentation of training batches, implemented in `pruning.training.augment`."""

    NONE = "none"
    SHIFT = "shift"
    SHIFT_FLIP = "shift_flip"
    TIME_SHIFT = "time_shift"
    SPEC_AUGMENT = "spec_augment"
    JITTER = "jitter"


class TrialState(StrEnum):
    """State of a trial; all but the first two are final."""

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


HALVED = "stride 2"
"""What the record of a job says of a convolution at which it halved the resolution."""
