"""The sweep file: TOML to a validated configuration, every error in one line. Imports no torch."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.units import parse_bytes, parse_duration
from search_spaces.budgets import BudgetsSection
from search_spaces.choices import Choice, NetworkChoice, Scalar, TaskChoice, TrainingChoice
from search_spaces.factories import is_reference
from search_spaces.hyperparameters import DEFAULTS, Choices, Range, parse_hyperparameter
from search_spaces.networks.registry import check_network
from search_spaces.paths import user_path
from search_spaces.tasks.registry import check_task
from search_spaces.terms import ExecutorName, SamplerName
from search_spaces.validation_errors import describe_validation_error

REFERENCES = (
    "name",
    "loop",
    "loss",
    "score",
)  # keys of [task], [network] and [training] that may be of the form module:function
PATHS = ("data", "path")  # keys of [task] that name files
NOT_IN_A_FILE = ("grown_from", "repeats", "latency_macs")
"""Fields of `SweepConfig` that commands add to the configuration of a study."""
MAX_WORKERS = 100_000
PARENT_LENGTH = 2
"""A dense network that a whole sweep begins with is worth this many times the training of one job."""
DEFAULT_METHODS = ("differentiable", "uniform", "l1")
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]
Searched = Annotated[Range | Choices | Scalar, BeforeValidator(parse_hyperparameter)]


class SweepSection(Choice):
    """``[sweep]``: ``trials`` is the number for each method, unless ``methods.trials`` says otherwise.

    Attributes:
        seeds: number of training seeds, the same for every budget, used in turn; after the last seed the first is used
            again, with other hyperparameters. Without it every trial of a method has its own seed.
    """

    name: Name
    seed: Seed = 0
    trials: Trials = 48
    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``seeds`` where there are none: studies of before it existed stay equal."""
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name != "seeds" or value is not None}


class NetworkSection(Choice):
    """``[network]``: one ``name`` or several ``names``, a width multiplier and the network's options.

    Attributes:
        frozen: paths of layers, such as ``"stem.conv"``, that keep all their channels.
        round_to: channels are kept or removed in units of this number: 4 for kernels that process four at once.
    """

    later = frozenset({"frozen", "round_to"})
    formerly = NetworkChoice.formerly

    name: Name | None = None
    names: Annotated[list[Name], Field(min_length=1)] | None = None
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    options: dict[str, Scalar] = Field(default_factory=dict)
    base: str | None = None
    frozen: tuple[Name, ...] = ()
    round_to: Annotated[int, Field(ge=1, le=64)] = 1

    @model_validator(mode="after")
    def _named_once(self) -> NetworkSection:
        if (self.name is None) == (self.names is None):
            raise InputError("network: give either name = '...' or names = ['...', '...']")
        if self.names is not None and len(set(self.names)) != len(self.names):
            raise InputError(f"names = {self.names}: each must be there once")
        for choice in self.choices():
            check_network(choice)
        return self

    def choices(self) -> tuple[NetworkChoice, ...]:
        """The networks to search over."""
        names = self.names if self.names is not None else [self.name or ""]
        return tuple(
            NetworkChoice(
                name=name,
                width=self.width,
                options=self.options,
                base=self.base if is_reference(name) else None,
                frozen=self.frozen,
                round_to=self.round_to,
            )
            for name in names
        )


class MethodsSection(Choice):
    """``[methods]``: names, and ``trials = {method = number}`` for methods with their own number of trials."""

    names: Annotated[list[Name], Field(min_length=1)] = Field(default_factory=lambda: list(DEFAULT_METHODS))
    trials: dict[str, Trials] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> MethodsSection:
        if len(set(self.names)) != len(self.names):
            raise InputError(f"names = {self.names}: each must be there once")
        for name in self.trials:
            if name not in self.names:
                raise InputError(f"trials.{name}: is not among names, which are {', '.join(self.names)}")
        return self


class SamplerSection(Choice):
    """``[sampler]``: how hyperparameters are chosen.

    Attributes:
        name: ``tpe`` learns across budgets and networks; ``optuna-tpe``, ``nsga2`` and ``nsga3`` are Optuna's and
            ignore the budget; ``qmc`` (scrambled Sobol), ``random`` and ``grid`` do not learn.
        warm_start: whether ``tpe`` also learns from earlier studies on the same task in the same database.
    """

    later = frozenset({"warm_start"})

    name: SamplerName = SamplerName.TPE
    warm_start: bool = False

    @model_validator(mode="after")
    def _learns(self) -> SamplerSection:
        if self.warm_start and self.name is not SamplerName.TPE:
            raise InputError(f"warm_start = true: '{self.name}' cannot begin with earlier studies; allowed with 'tpe'")
        return self


class StoppingSection(Choice):
    """``[stopping]``: early stopping of trials.

    Attributes:
        eta: at each level the best ``1 / eta`` of the trials of a method at a budget continue.
        audit_share: fraction of the trials that are never stopped; the report says how many of them would have been
            stopped by mistake.
        race: whether the networks of ``[network] names`` compete at each budget, so that the trials of the losers are
            stopped; otherwise each network is compared with itself only.
    """

    later = frozenset({"eta", "audit_share", "race"})

    enabled: bool = True
    race: bool = False
    eta: Annotated[int, Field(ge=2, le=100)] = 3
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.1


class LineageSection(Choice):
    """``[lineage]``: whether jobs start from trained networks of other jobs in the sweep.

    The dense network of each network (and seed, with ``sweep.seeds``) is trained once, as a separate trial; a job
    starts from the trained network of the nearest budget that is at least as large in every bound, else from the dense
    one. Jobs of methods that do not inherit are not affected.

    Attributes:
        parent_epochs: epochs of the dense network; by default twice as long as a job (``training.epochs``).
    """

    enabled: bool = False
    parent_epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _wanted(self) -> LineageSection:
        if self.parent_epochs is not None and not self.enabled:
            raise InputError(f"parent_epochs = {self.parent_epochs}: goes with enabled = true only")
        return self


def _worker_count(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WORKERS):
        return value
    raise InputError(f"{value!r} is no number of workers: must be 'auto' or a whole number from 1 to {MAX_WORKERS:,}")


def _store_url(url: str) -> str:
    """The URL of a folder in an object store, without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if "://" not in url or not (parts.netloc or parts.path):
        raise ValueError("must be the URL of a folder in an object store, such as s3://bucket/sweeps")
    if parts.password is not None:
        raise ValueError("must not contain a password: see docs/how-to/cluster.md on how to give it")
    return url.rstrip("/")


class WorkersSection(Choice):
    """``[workers]``: where trials run, how many in parallel, and how often a trial is attempted.

    Attributes:
        gpus_per_trial: a fraction of a GPU, such as 0.25; by default the available GPUs are divided evenly between the
            workers.
        min_free: no new trial starts when less than this is free where results are written.
        ship: files and folders beside the sweep that go to the nodes of a cluster, besides the Python files there.
        artifacts: URL of a folder in an object store, such as "s3://bucket/sweeps", that keeps the files of finished
            trials; the folder beside the database is then a cache.
        time_limit: longest time of one attempt, such as "90min"; one that takes longer is ended and tried again.
    """

    later = frozenset({"ship", "artifacts", "time_limit"})

    executor: ExecutorName = ExecutorName.RAY
    cpus_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    gpus_per_trial: Annotated[float, Field(ge=0, le=64)] | None = None
    count: Annotated[int | Literal["auto"], BeforeValidator(_worker_count)] = "auto"
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    min_free: Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)] = 256 * 2**20
    ship: tuple[Name, ...] = ()
    artifacts: Annotated[Name, AfterValidator(_store_url)] | None = None
    time_limit: Annotated[int, BeforeValidator(parse_duration), Field(ge=1_000_000)] | None = None


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
