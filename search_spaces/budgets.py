"""The budgets of a sweep: devices, an explicit list, or ranges sampled log-uniformly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator

from mcu.budget import RESOURCES, Budget
from mcu.devices import Device, find_device, require_interpreter
from mcu.errors import InputError
from mcu.terms import RuntimeName
from mcu.units import parse_bytes, parse_count, parse_duration
from search_spaces.choices import Choice
from search_spaces.validation_errors import closest_key

FORMS = "devices = [names], list = [{flash, sram, macs}], or ranges such as flash = ['16KB', '256KB']"
SAMPLED_STEP = 256  # sampled sizes are whole quarters of a KB: short names, no influence on the outcome
DEFAULT_COUNT = 8


def _positive(value: int) -> int:
    if value <= 0:
        raise InputError(f"{value!r} is not a bound: must be more than 0")
    return value


def _device_name(value: Any) -> str:
    return find_device(value).name


Microseconds = Annotated[
    int, BeforeValidator(parse_duration), AfterValidator(_positive), PlainSerializer(lambda value: f"{value}us")
]
Bytes = Annotated[int, BeforeValidator(parse_bytes), AfterValidator(_positive)]
Count = Annotated[int, BeforeValidator(parse_count), AfterValidator(_positive)]
ByteRange = Annotated[list[Bytes], Field(min_length=2, max_length=2)]
CountRange = Annotated[list[Count], Field(min_length=2, max_length=2)]
DeviceName = Annotated[str, AfterValidator(_device_name)]


_KEYS = ("name", *RESOURCES)


def _read_budget(value: Any) -> Budget:
    if isinstance(value, Budget):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("name", ""), str | None):
        raise InputError(f"{value!r} is not a budget: must be a table such as {{flash = '64KB', sram = '16KB'}}")
    for key in value:
        if key not in _KEYS:
            raise InputError(f"{key}: is an unknown key: {closest_key(str(key), _KEYS)}")
    return Budget(**value)


def _bounded(budget: Budget) -> Budget:
    if not budget.bounds():
        raise InputError("an empty budget bounds nothing: give flash, sram or macs")
    return budget


def _table(*keys: str) -> PlainSerializer:
    return PlainSerializer(lambda budget: {key: getattr(budget, key) for key in keys})


TrialBudget = Annotated[Budget, PlainValidator(_read_budget), _table(*RESOURCES)]
"""A budget in a trial's specification: its JSON holds the bounds alone, so that equal trials have equal hashes."""

DeviceNames = Annotated[list[DeviceName], Field(min_length=1)]
ListedBudget = Annotated[Budget, PlainValidator(_read_budget), AfterValidator(_bounded), _table(*_KEYS)]
ListedBudgets = Annotated[list[ListedBudget], Field(min_length=1)]


class BudgetsSection(Choice):
    """``[budgets]`` of the sweep file: exactly one of ``devices``, ``list`` and ranges.

    Attributes:
        latency: longest inference on each of the devices, such as ``"50ms"``: bounds multiply-accumulates by clock,
            cycles per instruction (of models measured on such a board, else of the core) and the predicted instructions
            of each network of the sweep, narrowed until it is within the time; the slowest network decides. With
            runtime = "firmware" less those of the front end of sound. ``best``, ``show`` and the report say whether a
            model is within it.
        flash, sram, macs: lowest and highest bound.
        count: number of budgets sampled from the ranges; for a grid an upper limit, with at least two values per axis.
        plan: ``sobol`` (scrambled Sobol points, uniform in the logarithm), ``grid``, or ``adaptive``: ``count`` Sobol
            points first, then every second budget at the largest gap or uncertainty of the front.
        runtime: what the bounds apply to: the .tflite file and TFLM's arena, or our exported C program.
    """

    later = frozenset({"latency"})

    devices: DeviceNames | None = None
    latency: Microseconds | None = None
    list: ListedBudgets | None = None
    flash: ByteRange | None = None
    sram: ByteRange | None = None
    macs: CountRange | None = None
    count: Annotated[int, Field(ge=1, le=4096)] = DEFAULT_COUNT
    plan: Literal["sobol", "grid", "adaptive"] = "sobol"
    runtime: RuntimeName = RuntimeName.TFLM

    @model_validator(mode="after")
    def _one_form(self) -> BudgetsSection:
        forms = [bool(self.devices), bool(self.list), bool(self.ranges())]
        if sum(forms) != 1:
            problem = "no form of budgets" if not any(forms) else "more than one form of budgets"
            raise InputError(f"{problem}: give exactly one of {FORMS}")
        if self.latency is not None and not self.devices:
            raise InputError("latency: bounds the time on a device; allowed with devices = [...]")
        if self.runtime is RuntimeName.TFLM:
            for name in self.devices or ():
                require_interpreter(find_device(name))
        if not self.ranges():
            for key in ("plan", "count"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise InputError(f"{key} = {getattr(self, key)!r}: only ranges are planned")
        for resource, (low, high) in self.ranges().items():
            if low > high:
                raise InputError(f"{resource} = [{low}, {high}]: must be [lowest, highest]")
        labels = [] if self.ranges() else [budget.label for budget in self.planned(seed=0)]
        for name, times in Counter(labels).items():
            if times > 1:
                raise InputError(f"budget {name!r} is given twice")
        return self

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest bound of the resources that have a range."""
        given = {resource: getattr(self, resource) for resource in RESOURCES}
        return {resource: (pair[0], pair[1]) for resource, pair in given.items() if pair is not None}

    def planned(self, seed: int, latency_macs: Mapping[str, int] = MappingProxyType({})) -> tuple[Budget, ...]:
        """The budgets known before the sweep begins.

        Args:
            seed: scrambles the Sobol points.
            latency_macs: what ``latency`` allows, by device; for others the figures of the core decide.
        """
        if self.devices:
            return tuple(self._on(find_device(name), latency_macs.get(name)) for name in self.devices)
        if self.list:
            return tuple(self.list)
        units = self._grid() if self.plan == "grid" else sobol_points(self.count, len(self.ranges()), seed)
        return tuple(dict.fromkeys(budget_at(self.ranges(), unit) for unit in units))

    def _on(self, device: Device, macs: int | None) -> Budget:
        if self.latency is None:
            return device.budget()
        from mcu.firmware import macs_within

        return replace(device.budget(), macs=macs_within(device, self.latency) if macs is None else macs)

    def _grid(self) -> np.ndarray:
        axes = len(self.ranges())
        points = max(2, int(self.count ** (1 / axes) + 1e-9))
        return np.array(list(product(np.linspace(0, 1, points), repeat=axes)))


def sobol_points(count: int, axes: int, seed: int) -> np.ndarray:
    """``count`` scrambled Sobol points in the unit cube, ``(count, axes)`` (Owen 1998; scipy.stats.qmc)."""
    from scipy.stats import qmc

    exponent = max(count - 1, 0).bit_length()
    return np.asarray(qmc.Sobol(axes, scramble=True, rng=np.random.default_rng(seed)).random_base2(exponent)[:count])


def budget_at(ranges: Mapping[str, tuple[int, int]], unit: np.ndarray) -> Budget:
    """The budget at a point of the unit cube, log-uniform between the ranges, in whole steps."""
    bounds = {}
    for (resource, (low, high)), share in zip(ranges.items(), unit, strict=True):
        exact = low * (high / low) ** float(share)
        step = 10 ** max(len(str(int(exact))) - 3, 0) if resource == "macs" else SAMPLED_STEP
        bounds[resource] = min(max(round(exact / step) * step, low), high)
    return Budget(**bounds)
