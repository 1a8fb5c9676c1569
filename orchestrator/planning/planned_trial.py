"""One trial of a plan before anything is sampled for it, and what it begins with."""

from __future__ import annotations

from dataclasses import dataclass

from mcu.budget import Budget, Resources
from orchestrator.spec import TrialSpec
from search_spaces.choices import NetworkChoice


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of the plan; its hyperparameters come from the sampler when its turn comes.

    Attributes:
        number: in the study, from 0.
        index: among the trials of its method, from 0.
        seed: the same for trials of one index, so methods are compared on equal terms.
        turn: how many trials of the same network and budget each method had before.
        parent_seed: of the dense network that the trial's lineage begins with.
    """

    number: int
    method: str
    index: int
    network: NetworkChoice
    budget: Budget
    seed: int
    turn: int = 0
    parent_seed: int = 0

    @property
    def is_parent(self) -> bool:
        """Whether it trains the dense network that a lineage begins with: the only trials without a bound."""
        return self.index < 0


@dataclass(frozen=True)
class Start:
    """What a trial begins with instead of fresh weights.

    Attributes:
        ancestor: specification of the trial whose trained network it takes.
        dense: what the dense network uses; None if that is not known.
        parent: hash of the specification of the dense network at the root of the lineage; None if that is lost.
    """

    ancestor: TrialSpec
    dense: Resources | None
    parent: str | None
