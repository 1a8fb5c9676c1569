"""The sweep file: TOML to a validated configuration, every error in one line. Imports no torch."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mcu.budget import Budget
from mcu.errors import InputError
from search_spaces.budgets import BudgetsSection
from search_spaces.choices import Choice, Scalar, TaskChoice, TrainingChoice
from search_spaces.factories import is_reference
from search_spaces.hyperparameters import DEFAULTS, Choices, Range, parse_hyperparameter
from search_spaces.paths import user_path
from search_spaces.sections import (
    LineageSection,
    MethodsSection,
    NetworkSection,
    SamplerSection,
    StoppingSection,
    SweepSection,
    WorkersSection,
)
from search_spaces.tasks.registry import check_task
from search_spaces.validation_errors import describe_validation_error

REFERENCES = ("name", "loop", "loss", "score")
"""Keys of [task], [network] and [training] that may be of the form module:function."""
PATHS = ("data", "path")
"""Keys of [task] that name files."""
NOT_IN_A_FILE = ("grown_from", "repeats", "latency_macs")
"""Fields of `SweepConfig` that commands add to the configuration of a study."""
PARENT_LENGTH = 2
"""A dense network that a whole sweep begins with is worth this many times the training of one job."""
Searched = Annotated[Range | Choices | Scalar, BeforeValidator(parse_hyperparameter)]


def _default_hyperparameters() -> dict[str, Range | Choices | Scalar]:
    """The hyperparameters of a sweep file that names none."""
    return {name: parse_hyperparameter(value) for name, value in DEFAULTS.items()}


class SweepConfig(Choice):
    """A whole sweep file; see :func:`load_sweep`.

    Attributes:
        grown_from: the configuration before the study was extended; never in a file.
        repeats: numbers of the trials that are trained again, each time with another seed; never in a file.
        latency_macs: what ``budgets.latency`` allows on each device, as it was when the study began; never in a file.
    """

    later = frozenset({"lineage", "repeats", "latency_macs"})

    sweep: SweepSection
    task: TaskChoice
    network: NetworkSection
    budgets: BudgetsSection
    methods: MethodsSection = MethodsSection()
    training: TrainingChoice = TrainingChoice()
    hyperparameters: dict[str, Searched] = Field(default_factory=_default_hyperparameters)
    sampler: SamplerSection = SamplerSection()
    stopping: StoppingSection = StoppingSection()
    lineage: LineageSection = LineageSection()
    workers: WorkersSection = WorkersSection()
    grown_from: dict[str, Any] | None = None
    repeats: tuple[int, ...] = ()
    latency_macs: dict[str, int] | None = None

    @model_validator(mode="after")
    def _checked(self) -> SweepConfig:
        check_task(self.task)
        return self

    def planned_budgets(self) -> tuple[Budget, ...]:
        """The budgets of this sweep, sampled with its seed where they are ranges."""
        return self.budgets.planned(self.sweep.seed, self.latency_macs or {})

    def trials_of(self, method: str) -> int:
        """How many trials ``method`` gets."""
        return self.methods.trials.get(method, self.sweep.trials)

    @property
    def parent_epochs(self) -> int:
        """Epochs of the dense network of a lineage."""
        return self.lineage.parent_epochs or PARENT_LENGTH * self.training.epochs

    def canonical(self) -> str:
        """JSON with sorted keys, equal for equal configurations; ``SweepConfig.model_validate_json`` reads it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read and check a sweep file.

    Args:
        path: the TOML file. Relative ``task.data`` and ``task.path`` in it are relative to its folder.
        overrides: ``key=value`` such as ``training.epochs=4``; the value is TOML, else a plain text.
            A relative path is relative to the current folder.

    Raises:
        InputError: one line that names the file (or ``--set``), the key, the value and what is allowed.
    """
    path = Path(path)
    folder = path.resolve().parent
    table = _read(path)
    _refuse_base(table, str(path))
    overridden: set[tuple[str, ...]] = set()
    for override in overrides:
        keys, value = _parse_override(override)
        if keys[0] == "task" and keys[1] in PATHS and isinstance(value, str):
            value = _absolute(value, Path.cwd())
        _set_leaf(table, keys, value, override)
        overridden.add(tuple(keys))
    _refuse_base(table, "--set")
    return _validated(table, folder, str(path), overridden)


def check_table(sections: Mapping[str, Any], source: str) -> SweepConfig:
    """The configuration of a sweep given as a dictionary; relative paths in it are relative to the current folder.

    Args:
        sections: the content of a sweep file, section by section.
        source: its name in messages.

    Raises:
        InputError: one line that names ``source``, the key, the value and what is allowed.
    """
    table = copy.deepcopy(dict(sections))
    _refuse_base(table, source)
    return _validated(table, Path.cwd(), source, set())


def _validated(table: dict[str, Any], folder: Path, source: str, overridden: set[tuple[str, ...]]) -> SweepConfig:
    task = table.get("task")
    for key in PATHS:
        if isinstance(task, dict) and isinstance(task.get(key), (str, Path)):
            task[key] = _absolute(str(task[key]), folder)
    _set_bases(table, str(folder))
    try:
        return SweepConfig.model_validate(table)
    except ValidationError as error:
        raise InputError(describe_validation_error(error, SweepConfig, source, overridden)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not TOML: {error}") from None


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise InputError(f"--set {override}: must be of the form section.key=value")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    return keys, parsed["value"] if list(parsed) == ["value"] else text.strip()


def _set_leaf(table: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {key} is {table!r} in the file, not a table")
    table[keys[-1]] = value


def _absolute(text: str, folder: Path) -> str:
    return str(folder / user_path(text)) if text else text


def _refuse_base(table: dict[str, Any], where: str) -> None:
    for name in NOT_IN_A_FILE:
        if name in table:
            raise InputError(f"{where}: unknown key {name}")
    task = table.get("task")
    if isinstance(task, dict) and "searched" in task:
        raise InputError(f"{where}: unknown key task.searched: options are searched in [hyperparameters]")
    for section in ("task", "network", "training"):
        if isinstance(table.get(section), dict) and "base" in table[section]:
            raise InputError(f"{where}: unknown key {section}.base: factories are looked up beside the sweep file")


def _set_bases(table: dict[str, Any], folder: str) -> None:
    """Note where ``module:factory`` is looked up, only where it matters: a moved sweep stays equal otherwise."""
    for section in ("task", "network", "training"):
        content = table.get(section)
        if isinstance(content, dict):
            names = [
                *map(content.get, REFERENCES),
                *(content["names"] if isinstance(content.get("names"), list) else []),
            ]
            if any(isinstance(name, str) and is_reference(name) for name in names):
                content["base"] = folder
