"""One trial of a plan before sampling, and its starting point."""

from __future__ import annotations

from dataclasses import dataclass

from mcu.budget import Budget, Resources
from orchestrator.planning.inputs import Inputs
from search_spaces.choices import NetworkChoice


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of the plan; its hyperparameters are sampled when it starts.

    Attributes:
        number: in the study, from 0.
        index: among the trials of its method, from 0.
        seed: equal for trials of one index, for a fair comparison of methods.
        turn: number of earlier trials of the same network and budget per method.
        parent_seed: of the dense network at the root of the trial's lineage.
        repeats: number of the trial whose specification, but for the seed, this one has.
        inputs: options of the task that were planned with the trial; in a sweep without a lineage they are sampled.
    """

    number: int
    method: str
    index: int
    network: NetworkChoice
    budget: Budget
    seed: int
    turn: int = 0
    parent_seed: int = 0
    repeats: int | None = None
    inputs: Inputs = ()

    @property
    def is_parent(self) -> bool:
        """Whether it trains the dense network at the root of a lineage: the only trials without a bound."""
        return self.index < 0

    @property
    def is_sampled(self) -> bool:
        """Whether it is part of the search: its hyperparameters are sampled, and later ones learn from its result."""
        return not self.is_parent and self.repeats is None


@dataclass(frozen=True, slots=True)
class Trained:
    """A trial that left its trained network: no more of it is kept, so that long sweeps do not fill the memory.

    Attributes:
        hash: of its specification.
        dense: resources of the dense network; None if unknown.
    """

    hash: str
    budget: Budget
    dense: Resources | None


@dataclass(frozen=True)
class Start:
    """Starting point of a trial instead of random weights.

    Attributes:
        ancestor: whose trained network it starts from.
        parent: hash of the specification of the dense network at the root of the lineage; None if that is lost.
    """

    ancestor: Trained
    parent: str | None
