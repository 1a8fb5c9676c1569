"""The choices of a trial: task, network and training. Plain JSON, frozen, hashable by content."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mcu.terms import Metric
from search_spaces.factories import check_reference

Scalar = bool | int | float | str
TrainingDevice = Literal["auto", "cpu", "cuda"]


class Choice(BaseModel):
    """Base of all choices: immutable, unknown keys refused.

    Attributes:
        later: fields added later; they are not written if unset, so that earlier trials keep their hashes.
        formerly: earlier names of fields, which are read and written for the same reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()
    formerly: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        now = {before: name for name, before in cls.formerly.items() if name not in given}
        return {now.get(key, key): value for key, value in given.items()}

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        unsaid = {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
        return {self.formerly.get(name, name): value for name, value in fields.items() if name not in unsaid}


def _reference(text: str) -> str:
    check_reference(text)
    return text


Reference = Annotated[str, AfterValidator(_reference)]


class TaskChoice(Choice):
    """The data: a registered task or ``module:factory``.

    Attributes:
        data: folder of a data set on disk.
        path: file of the task ``arrays``.
        options: options of the task; ``train_limit``, ``val_limit`` and ``test_limit`` work for every task.
        base: folder in which ``module:factory`` is looked up first.
        searched: options that a trial's hyperparameters set, in place of ``options``; which sample is in which split
            depends on ``options`` alone. Never in a file.
    """

    later = frozenset({"searched"})

    name: Annotated[str, Field(min_length=1)]
    data: str | None = None
    path: str | None = None
    options: dict[str, Scalar] = {}
    base: str | None = None
    searched: dict[str, Scalar] = {}


class NetworkChoice(Choice):
    """The network: a registered one or ``module:factory``.

    Attributes:
        width: multiplier on the channels of registered networks.
        options: keyword arguments of the network.
        base: folder in which ``module:factory`` is looked up first.
        frozen: paths of layers that keep all their channels.
        round_to: channels are kept or removed in units of this number, in every group whose size is a multiple of it.
    """

    later = frozenset({"frozen", "round_to"})
    formerly = MappingProxyType({"round_to": "multiple"})

    name: Annotated[str, Field(min_length=1)]
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    options: dict[str, Scalar] = {}
    base: str | None = None
    frozen: tuple[str, ...] = ()
    round_to: Annotated[int, Field(ge=1, le=64)] = 1


class TrainingChoice(Choice):
    """Training of a trial: length, device, metric, loss and loop.

    Attributes:
        device: ``auto`` takes a GPU when torch sees one.
        metric: metric of a trial's accuracies, and so the objective of the sweep. Classification: ``accuracy`` (top-1)
            or ``macro_f1`` (unweighted mean F1 of the classes); multi-label: ``mean_average_precision``; regression:
            ``r2`` or ``mae``; reconstruction: ``auc``; grid: ``cell_f1``.
        class_weights: weighting of rare classes in the loss: 0 none, 1 equal total weight for all classes.
        loss: ``module:function`` of outputs and targets, in place of the default loss of the task.
        score: ``module:function`` of targets and outputs, in place of ``metric``; higher is better.
        loop: ``module:function`` that replaces the built-in training loop; called with a pruner and the trial.
        base: folder in which ``module:function`` is looked up first.
    """

    later = frozenset({"metric", "class_weights", "loss", "score", "loop", "base"})

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    device: TrainingDevice = "auto"
    metric: Metric = Metric.ACCURACY
    class_weights: Annotated[float, Field(ge=0, le=1)] = 0.0
    loss: Reference | None = None
    score: Reference | None = None
    loop: Reference | None = None
    base: str | None = None

    @property
    def judged_by(self) -> str:
        """The user's score, else the metric; see ``mcu.score.score_of``."""
        return self.score or self.metric
