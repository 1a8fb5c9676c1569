"""Words with a fixed set of values that several rooms share. Light: imports nothing."""

from __future__ import annotations

from enum import StrEnum


class RuntimeName(StrEnum):
    """``tflm``: bytes of the .tflite and of the arena; ``firmware``: flash and RAM of the linked C program."""

    TFLM = "tflm"
    FIRMWARE = "firmware"


class Metric(StrEnum):
    """What a network is judged by: the share of all samples that is right, or the mean F1 of the classes."""

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"


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
