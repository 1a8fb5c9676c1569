"""Hyperparameters of the sweep file, and their Optuna distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from mcu.errors import InputError
from search_spaces.choices import Choice, Scalar

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Number = StrictInt | StrictFloat
FORMS = "a value, {low, high} with log or step, or {choices = [...]}"
DEFAULTS: dict[str, Any] = {"learning_rate": {"low": 0.02, "high": 0.3, "log": True}}


class Range(Choice):
    """From ``low`` to ``high``, both included; integers if both are written as integers."""

    low: Number
    high: Number
    log: StrictBool = False
    step: Number | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Range:
        if self.low >= self.high:
            raise InputError(f"low = {self.low} and high = {self.high}: low must be less than high")
        if self.log and self.low <= 0:
            raise InputError(f"low = {self.low}: must be more than 0 when log = true")
        if self.log and self.step is not None:
            raise InputError(f"step = {self.step}: goes with log = false only")
        if self.step is not None and self.step <= 0:
            raise InputError(f"step = {self.step}: must be more than 0")
        if self.whole and isinstance(self.step, float):
            raise InputError(f"step = {self.step}: must be a whole number, as low and high are")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is a range of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> BaseDistribution:
        """The same as an Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)


class Choices(Choice):
    """One of several values."""

    choices: Annotated[list[StrictBool | StrictInt | StrictFloat | StrictStr], Field(min_length=1)]

    @model_validator(mode="after")
    def _different(self) -> Choices:
        if len({(type(choice), choice) for choice in self.choices}) != len(self.choices):
            raise InputError(f"choices = {self.choices}: each must be there once")
        return self

    def distribution(self) -> BaseDistribution:
        """The same as an Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)


Hyperparameter = Range | Choices | Scalar


def parse_hyperparameter(value: Any) -> Hyperparameter:
    """A table as :class:`Range` or :class:`Choices`, a scalar as a fixed value.

    Raises:
        InputError: for anything else; pydantic's ``ValidationError`` for a wrong key or type in a table.
    """
    if isinstance(value, Range | Choices):
        return value
    if isinstance(value, Mapping):
        if "choices" in value:
            return Choices.model_validate(value)
        if "low" in value or "high" in value:
            return Range.model_validate(value)
    elif isinstance(value, bool | int | float | str):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{value!r} is not a hyperparameter: must be a finite number")
        return value
    raise InputError(f"{value!r} is not a hyperparameter: allowed are {FORMS}")


def distributions(hyperparameters: Mapping[str, Hyperparameter]) -> dict[str, BaseDistribution]:
    """Optuna distributions of those hyperparameters that are searched, by name."""
    searched = {name: value for name, value in hyperparameters.items() if isinstance(value, Range | Choices)}
    return {name: value.distribution() for name, value in searched.items()}


def fixed_values(hyperparameters: Mapping[str, Hyperparameter]) -> dict[str, Scalar]:
    """The hyperparameters that the sweep file fixes, by name."""
    return {name: value for name, value in hyperparameters.items() if not isinstance(value, Range | Choices)}
