"""Choosing hyperparameters: what a sampler is told, and what it answers. `sampler_catalogue` has those there are.

Budgets are not chosen here: they are planned beforehand, or by `budget_plan` as results come, and stay a context.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcu.budget import Budget
from orchestrator.samplers.observation import Observation
from orchestrator.spec import canonical_json
from search_spaces.choices import Scalar

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def derive_seed(*parts: int | str) -> int:
    """A seed in 0..2**31-1 that depends on the parts and on nothing else."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True)
class Context:
    """What hyperparameters are wanted for; not the sampler's to choose.

    Attributes:
        cells: networks times budgets of the plan, which a method's trials go round.
        seeds: training seeds that the trials of a cell take in turns; 1 if no two share one.
    """

    budget: Budget = field(default_factory=Budget)
    network: str = ""
    cells: int = 1
    seeds: int = 1


@dataclass(frozen=True)
class Suggestion:
    """Hyperparameters for a trial, and what the sampler wants to remember of it (kept with Optuna's record)."""

    params: dict[str, Scalar]
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A trial of an earlier run as Optuna's tables keep it, with what it was for."""

    method: str
    index: int
    context: Context
    trial: FrozenTrial


class Sampler(ABC):
    """Suggests hyperparameters for the k-th trial of a method and learns from results."""

    @abstractmethod
    def suggest(self, method: str, index: int, context: Context) -> Suggestion:
        """Hyperparameters of trial ``index`` of a method, for a budget and a network."""

    @abstractmethod
    def learn(self, method: str, index: int, outcome: Observation) -> None:
        """Take in how a suggested trial ended."""

    @abstractmethod
    def restore(self, record: Record) -> None:
        """Take in a trial of an earlier run, finished or not."""


def replay(sampler: Sampler, records: Iterable[Record]) -> None:
    """Give a new sampler the trials of an earlier run, in their order."""
    for record in records:
        sampler.restore(record)
