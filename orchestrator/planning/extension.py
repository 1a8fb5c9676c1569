"""Extension of a study: only trials, seeds, budgets, networks and methods may be added to its sweep file."""

from __future__ import annotations

import json
from typing import Any

from mcu.errors import InputError
from orchestrator.planning.sweep_difference import differences
from search_spaces.sweep import NOT_IN_A_FILE, SweepConfig

_MAY_GROW = ("sweep.trials", "sweep.seeds", "budgets.", "network.name", "network.names", "methods.")


def bare(sweep: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration as in its file, without workers."""
    return {key: value for key, value in sweep.items() if key not in (*NOT_IN_A_FILE, "workers")}


def grown(old: SweepConfig, new: SweepConfig) -> SweepConfig:
    """The new sweep with the old one as its first part, whose trials keep their numbers.

    Raises:
        InputError: naming what is not an addition.
    """
    before, after = json.loads(old.canonical()), json.loads(new.canonical())
    for line in differences(bare(before), bare(after)):
        if not line.startswith(_MAY_GROW):
            raise InputError(f"--extend: {line}: only trials, seeds, budgets, networks and methods can be added")
    if old.budgets.latency is not None and old.budgets.latency == new.budgets.latency:
        kept = {budget.device: budget.macs for budget in old.planned_budgets()}
        new = new.model_copy(update={"latency_macs": {**(new.latency_macs or {}), **kept}})
    _check_trials(old, new)
    _check_cells(old, new)
    return _after(before, new.model_copy(update={"repeats": old.repeats}))


def repeated(old: SweepConfig, numbers: tuple[int, ...]) -> SweepConfig:
    """The sweep with trials of these numbers once more, behind all others; a number that comes twice gets two seeds."""
    return _after(json.loads(old.canonical()), old.model_copy(update={"repeats": old.repeats + numbers}))


def _after(before: dict[str, Any], new: SweepConfig) -> SweepConfig:
    del before["workers"]
    return new.model_copy(update={"grown_from": before})


def _check_trials(old: SweepConfig, new: SweepConfig) -> None:
    had, has = old.methods.names, new.methods.names
    if has[: len(had)] != had:
        raise InputError(f"--extend: methods.names = {has}: must begin with {', '.join(had)}; new ones are appended")
    for method in had:
        if new.trials_of(method) < old.trials_of(method):
            raise InputError(
                f"--extend: {new.trials_of(method)} trials of {method}: the study has {old.trials_of(method)} already; "
                "trials can only be added"
            )
    if (new.sweep.seeds or 0) < (old.sweep.seeds or 0) or (new.sweep.seeds is None) != (old.sweep.seeds is None):
        raise InputError(f"--extend: sweep.seeds: {old.sweep.seeds} -> {new.sweep.seeds}: seeds can only be added")


def _check_cells(old: SweepConfig, new: SweepConfig) -> None:
    kept = {(budget.label, budget) for budget in new.planned_budgets()}
    lost = [budget.label for budget in old.planned_budgets() if (budget.label, budget) not in kept]
    if lost:
        raise InputError(f"--extend: budget {lost[0]!r} is not in the sweep file any more; budgets can only be added")
    networks = [choice.model_dump_json() for choice in new.network.choices()]
    for choice in old.network.choices():
        if choice.model_dump_json() not in networks:
            raise InputError(f"--extend: network {choice.name} is not in the sweep file any more, or not the same")
