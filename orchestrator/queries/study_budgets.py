"""The budgets of a study and what else it asked for, from its stored sweep. Imports no torch, Ray or Optuna."""

from __future__ import annotations

from mcu.budget import RESOURCES, Budget
from mcu.terms import RuntimeName
from mcu.units import parse_duration
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store, Study
from search_spaces.budgets import BudgetsSection
from search_spaces.sections import SweepSection


def budgets_of(study: Study) -> tuple[Budget, ...]:
    """The budgets known before the study started."""
    seed = SweepSection.model_validate(study.sweep["sweep"]).seed
    return BudgetsSection.model_validate(study.sweep["budgets"]).planned(seed, study.sweep.get("latency_macs") or {})


def latency_bounds(study: Study) -> dict[str, float]:
    """Milliseconds that ``budgets.latency`` allows an inference, by device; empty without such a bound."""
    budgets = study.sweep.get("budgets", {})
    if budgets.get("latency") is None:
        return {}
    return dict.fromkeys(budgets.get("devices") or (), parse_duration(budgets["latency"]) / 1000)


def searched_inputs(study: Study) -> tuple[str, ...]:
    """Hyperparameters of the study that are options of its task: the front end of sound, the resolution of images."""
    options = study.task.get("searchable") or ()
    return tuple(name for name in study.sweep.get("hyperparameters") or () if name in options)


def budgets_in(store: Store, study: Study) -> tuple[Budget, ...]:
    """Those, then the budgets that were chosen from results, in the order of their first trials."""
    known = budgets_of(study)
    with trial_search(store, None, [study.id], parameters=False) as search:
        rows = search.narrow([f"budget_{name}" for name in RESOURCES], ("number",))
    chosen = dict.fromkeys(Budget(*bounds) for _, *bounds in rows if any(bound is not None for bound in bounds))
    return (*known, *(budget for budget in chosen if budget not in known))


def runtime_of(study: Study) -> RuntimeName:
    """What the bounds of the study's budgets apply to."""
    return RuntimeName(study.sweep.get("budgets", {}).get("runtime", RuntimeName.TFLM))
