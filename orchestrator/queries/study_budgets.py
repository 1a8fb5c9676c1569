"""The budgets a study was made for, read from the sweep it keeps. No torch, no Ray, no Optuna."""

from __future__ import annotations

from mcu.budget import Budget
from orchestrator.storage.store import Study
from search_spaces.budgets import BudgetsSection


def budgets_of(study: Study) -> tuple[Budget, ...]:
    """The budgets known before the study began."""
    return BudgetsSection.model_validate(study.sweep["budgets"]).planned(study.sweep["sweep"]["seed"])
