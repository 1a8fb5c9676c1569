"""Choosing hyperparameters: what a sampler is told, and what it answers. `registry` has those there are.

Budgets are not chosen here: they are planned beforehand, or by `budget_plan` as results come, and stay a context.
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
class Past:
    """A trial that the database holds.

    Attributes:
        observation: how it ended; None while it has no result.
        index: among the trials of its method; None for a trial of an earlier study.
        study: name of the earlier study; empty for the one that is run.
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
        """Hyperparameters of trial ``index`` of a method, for a budget and a network."""

    def learn(self, method: str, index: int, observation: Observation) -> None:  # noqa: B027  a sequence learns nothing
        """Take in how a trial ended that was suggested, or restored without a result; others are ignored."""

    def restore(self, past: Past) -> bool:
        """Take in a trial of an earlier run or study, in the order of their numbers; False if it says nothing here."""
        return False
