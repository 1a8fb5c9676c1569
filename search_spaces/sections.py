"""The sections of a sweep file, but for ``[budgets]`` (``budgets.py``) and those a trial keeps (``choices.py``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from mcu.errors import InputError
from mcu.units import parse_bytes
from search_spaces.budgets import Microseconds
from search_spaces.choices import Choice, NetworkChoice, Scalar
from search_spaces.factories import is_reference
from search_spaces.networks.registry import check_network
from search_spaces.terms import ExecutorName, SamplerName

MAX_WORKERS = 100_000
DEFAULT_METHODS = ("differentiable", "uniform", "l1")
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]


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
    time_limit: Annotated[Microseconds, Field(ge=1_000_000)] | None = None
