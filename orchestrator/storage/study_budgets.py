"""The budgets a study was made for, read from the sweep it keeps. No torch, no Ray, no Optuna."""

from __future__ import annotations

from mcu.budget import Budget
from orchestrator.storage.store import Study
from search_spaces.budgets import BudgetsSection


def budgets_of(study: Study) -> list[tuple[str, str | None, Budget]]:
    """Name, device and bounds of each budget."""
    section = BudgetsSection.model_validate(study.sweep["budgets"])
    return [(named.name, named.device, named.budget) for named in section.named(study.sweep["sweep"]["seed"])]
