"""Interface of samplers of hyperparameters. `registry` lists the available ones.

Budgets are not sampled here: they are planned in advance, or chosen by `budget_plan`, and are a context.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcu.budget import Budget
from orchestrator.samplers.observation import Observation
from orchestrator.spec import canonical_json
from search_spaces.choices import Scalar


def derive_seed(*parts: int | str) -> int:
    """A seed in 0..2**31-1 that depends on the parts alone."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True)
class Context:
    """Context of a suggestion, which the sampler does not choose.

    Attributes:
        cells: networks times budgets of the plan, through which a method's trials cycle.
        seeds: number of training seeds that the trials of a cell use in turn; 1 if every trial has its own.
    """

    budget: Budget = field(default_factory=Budget)
    network: str = ""
    cells: int = 1
    seeds: int = 1


@dataclass(frozen=True)
class Past:
    """A trial in the database.

    Attributes:
        observation: how it ended; None while it has no result.
        index: among the trials of its method; None for a trial of an earlier study.
        study: name of the earlier study; empty for the current one.
    """

    method: str
    params: Mapping[str, Scalar]
    context: Context
    observation: Observation | None
    index: int | None = None
    study: str = ""


class Sampler(ABC):
    """Suggests hyperparameters for the k-th trial of a method and learns from results."""

    @abstractmethod
    def suggest(self, method: str, index: int, context: Context) -> dict[str, Scalar]:
        """Suggest hyperparameters of trial ``index`` of a method, for a budget and a network."""

    def learn(self, method: str, index: int, observation: Observation) -> None:  # noqa: B027  a sequence learns nothing
        """Record the result of a trial that was suggested, or restored without a result; others are ignored."""

    def restore(self, past: Past) -> bool:
        """Record a trial of an earlier run or study, in the order of trial numbers; False if it is not usable."""
        return False
