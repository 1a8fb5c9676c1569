"""Training recipe of a job: all settings of the schedule, read from the hyperparameters. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Real

from mcu.errors import InputError

Scalar = float | int | str | bool

TRAINING = (
    "learning_rate", "weight_decay", "label_smoothing", "int8_part", "averaging", "recalibration",
    "parent_epochs", "start", "distillation", "distillation_temperature",
)  # fmt: skip
"""Hyperparameters that every method takes, because every method trains with the same loop."""

FRACTIONS = ("label_smoothing", "int8_part", "pretrain", "warmup", "pruning")
"""Hyperparameters that are a part of something: of the label, or of the steps of a job."""

SWITCHES = ("recalibration", "halving")
PRICES = ("weight_decay", "averaging", "balance", "slimming_penalty", "group_penalty")

IMITATION = 0.7
"""Weight of the logits of a lineage's dense parent in the loss of recovery, unless ``distillation`` says so."""


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and recovery of one job.

    Attributes:
        learning_rate, weight_decay: of SGD with Nesterov momentum; one cosine learning-rate schedule to zero over the
            float steps.
        label_smoothing: fraction of the label spread over all classes (Szegedy et al., CVPR 2016).
        int8_part: last fraction of all steps, for quantisation-aware training.
        averaging: window of an exponential moving average of the weights, in epochs; 0 keeps the last weights.
        recalibration: whether batch-norm statistics are recomputed before quantisation.
        parent_epochs: epochs, out of the job's own, that train the dense parent; 0 for no parent.
        start: "scratch", or "parent" to start from the parent's weights.
        distillation: weight of the parent's logits in the loss, 0..1 (Hinton et al., 2015).
        distillation_temperature: student's and teacher's logits are divided by it.
    """

    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    int8_part: float = 0.05
    averaging: float = 0.0
    recalibration: bool = False
    parent_epochs: int = 0
    start: str = "scratch"
    distillation: float = 0.0
    distillation_temperature: float = 3.0

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Scalar], epochs: int, *, taught: bool = False) -> Recipe:
        """The recipe of a job of ``epochs`` epochs; names that are not part of the recipe are left to the method.

        Args:
            hyperparameters: what was chosen, by name.
            epochs: of the job.
            taught: whether the job's lineage gives it a teacher.

        Raises:
            InputError: for a value that is not allowed, or distillation without a parent.
        """
        for name, value in hyperparameters.items():
            check_value(name, value, epochs)
        chosen = {field.name: hyperparameters[field.name] for field in fields(cls) if field.name in hyperparameters}
        if taught:
            return cls(**{"distillation": IMITATION, **chosen})  # type: ignore[arg-type]
        recipe = cls(**chosen)  # type: ignore[arg-type]
        check_parent(recipe.parent_epochs, recipe.distillation, recipe.start)
        return recipe


def check_value(name: str, value: Scalar, epochs: int) -> None:
    """Refuse a value that a recipe, or the phases of a method, cannot have; other names are accepted.

    Raises:
        InputError: naming what is allowed.
    """
    if name not in (*Recipe.__dataclass_fields__, *FRACTIONS, *SWITCHES, *PRICES):
        return
    if name == "start":
        holds, allowed = value in ("scratch", "parent"), "'scratch' or 'parent'"
    elif name in SWITCHES:
        holds, allowed = isinstance(value, bool), "true or false"
    elif isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        holds, allowed = False, "a finite number"
    elif name == "parent_epochs":
        allowed = f"a whole number from 0 to {epochs - 1}, one less than the epochs of the trial"
        holds = float(value).is_integer() and 0 <= value < epochs
    elif name in FRACTIONS:
        holds, allowed = 0 <= value < 1, "0 to less than 1"
    elif name == "distillation":
        holds, allowed = 0 <= value <= 1, "0 to 1"
    elif name in PRICES:
        holds, allowed = value >= 0, "0 or more"
    else:
        holds, allowed = value > 0, "more than 0"
    if not holds:
        raise InputError(f"hyperparameters.{name} = {value}: allowed is {allowed}")


def check_parent(parent_epochs: float, distillation: float, start: str) -> None:
    """Refuse settings that need a parent if there is none.

    Raises:
        InputError: saying what to set.
    """
    if not parent_epochs and (distillation or start == "parent"):
        name, value = ("distillation", distillation) if distillation else ("start", start)
        raise InputError(f"hyperparameters.{name} = {value}: needs parent_epochs of 1 or more")


def check_phases(warm_up: float, pruning: float) -> None:
    """Refuse phases of differentiable pruning that do not end with the job.

    Raises:
        InputError: saying what is allowed.
    """
    if warm_up + pruning > 1 + 1e-9:
        raise InputError(f"hyperparameters.warmup = {warm_up:g} and pruning = {pruning:g}: allowed are 1 together")
