"""A trial's result for the optimiser: four objectives and one relative constraint per bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from mcu.budget import Budget
from mcu.terms import RuntimeName, TrialState
from orchestrator.spec import TrialResult
from reports.columns import used_columns

OBJECTIVES = ("val_accuracy", "flash", "sram", "macs")
DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize", "minimize", "minimize")
NO_RESULT_VIOLATION = 10.0


@dataclass(frozen=True)
class Observation:
    """Result of a trial for a sampler.

    Attributes:
        state: ``complete``, ``stopped`` or ``failed``.
        values: the objectives in the order of `OBJECTIVES`; only of complete trials.
        constraints: ``(used - bound) / bound`` by bound (relative, because samplers sum them); above 0 is infeasible.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    constraints: dict[str, float] = field(default_factory=dict)


def observe(result: TrialResult, budget: Budget, runtime: RuntimeName) -> Observation:
    """Convert a result; a trial without a complete result is infeasible, so that no sampler considers it good.

    Flash and SRAM are those of the runtime that the bounds apply to.
    """
    columns = used_columns(runtime)
    values = tuple(getattr(result, columns.get(name, name)) for name in OBJECTIVES)
    relative = {
        name: (used - bound) / bound
        for name, bound in budget.bounds().items()
        if (used := getattr(result, columns[name])) is not None
    }
    if result.state == TrialState.COMPLETE and all(value is not None and math.isfinite(value) for value in values):
        return Observation(TrialState.COMPLETE, tuple(float(value) for value in values), relative)
    if result.state == TrialState.STOPPED:
        over = sum(max(0.0, value) for value in relative.values())
        return Observation(TrialState.STOPPED, None, {"stopped": 1.0 + over})
    return Observation(TrialState.FAILED, None, {"failed": NO_RESULT_VIOLATION})
