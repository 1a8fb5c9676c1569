"""The budgets of a study, from its stored sweep. Imports no torch, Ray or Optuna."""

from __future__ import annotations

from mcu.budget import Budget
from mcu.terms import RuntimeName
from orchestrator.storage.store import Study
from search_spaces.budgets import BudgetsSection
from search_spaces.sweep import SweepSection


def budgets_of(study: Study) -> tuple[Budget, ...]:
    """The budgets known before the study started."""
    seed = SweepSection.model_validate(study.sweep["sweep"]).seed
    return BudgetsSection.model_validate(study.sweep["budgets"]).planned(seed, study.sweep.get("latency_macs") or {})


def runtime_of(study: Study) -> RuntimeName:
    """What the bounds of the study's budgets apply to."""
    return RuntimeName(study.sweep.get("budgets", {}).get("runtime", RuntimeName.TFLM))
