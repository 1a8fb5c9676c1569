"""How methods compare at equal budgets: means and spreads over seeds, paired differences, wins, ties, losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcu.terms import TrialState
from reports.intervals import bootstrap_mean
from reports.metric import score_in
from reports.trials import bounded, budgets, methods
from reports.winners import method_winner

TIE = 0.001  # accuracies closer than this count as equal: a tenth of a percentage point; of other scores, of the larger


@dataclass(frozen=True)
class Cell:
    """One method at one budget: finished and feasible trials, the winner's test accuracy, mean and spread of all."""

    budget: str
    method: str
    tried: int
    feasible: int
    best: float | None
    mean: float | None
    spread: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Duel:
    """``method`` against ``reference``: the difference in test accuracy over pairs of equal budget and seed.

    ``wins`` counts budgets where the reference's winner is better, or where only the reference fits.
    ``difference`` is reference minus method in accuracy (0..1), with a bootstrap interval from three pairs on.
    """

    reference: str
    method: str
    wins: int
    ties: int
    losses: int
    pairs: int
    difference: float | None
    interval: tuple[float, float] | None


def compare_methods(table: pd.DataFrame, seed: int = 0) -> list[Cell]:
    """A cell for each budget and method of a tidy table, budgets smallest first; methods that failed included."""
    generator = np.random.default_rng(seed)
    names = methods(bounded(table))
    return [_cell(table, budget, name, generator) for budget in budgets(table)["budget"] for name in names]


def duels(table: pd.DataFrame, reference: str | None = None, seed: int = 0) -> list[Duel]:
    """The reference method (the first of the table by default) against each other one."""
    names = methods(bounded(table))
    if len(names) < 2:
        return []
    first = reference if reference in names else names[0]
    generator = np.random.default_rng(seed)
    best = {name: seed_winners(table, name) for name in names}
    return [_duel(table, str(first), other, best, generator) for other in names if other != first]


def seed_winners(table: pd.DataFrame, method: str) -> dict[tuple[str, int], float]:
    """Test accuracy of a method's best feasible trial (by validation) for each budget and seed."""
    mine = table[(table["method"] == method) & table["feasible"] & table["val_accuracy"].notna()]
    mine = mine.sort_values(["val_accuracy", "flash"], ascending=[False, True], kind="stable")
    best = mine.drop_duplicates(["budget", "seed"])
    keys = zip(best["budget"], best["seed"].astype(int), strict=True)
    return dict(zip(keys, best["accuracy"].astype(float), strict=True))


def _cell(table: pd.DataFrame, budget: str, method: str, generator: np.random.Generator) -> Cell:
    mine = (table["budget"] == budget) & (table["method"] == method)
    accuracies = table.loc[mine & table["feasible"], "accuracy"].to_numpy(dtype=float)
    row = method_winner(table, budget, method)
    return Cell(
        budget=budget,
        method=method,
        tried=int((mine & table["finished"]).sum()),
        feasible=len(accuracies),
        best=None if row is None else float(table["accuracy"].iloc[row]),
        mean=float(accuracies.mean()) if len(accuracies) else None,
        spread=float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None,
        interval=bootstrap_mean(list(accuracies), generator),
    )


def _duel(
    table: pd.DataFrame,
    reference: str,
    method: str,
    best: dict[str, dict[tuple[str, int], float]],
    generator: np.random.Generator,
) -> Duel:
    score = {"win": 0, "tie": 0, "loss": 0}
    crashed = table["state"] == TrialState.FAILED  # says nothing of what a method can
    judged = table[table["finished"] & ~crashed]
    ran = judged.groupby("budget")["method"].agg(set).to_dict()
    for budget in budgets(table)["budget"]:
        if not {reference, method} <= ran.get(budget, set()):
            continue
        mine, other = (_winner_accuracy(table, budget, name) for name in (reference, method))
        tie = TIE if score_in(table).percent else TIE * max(abs(mine or 0.0), abs(other or 0.0))
        outcome = _outcome(mine, other, tie)
        if outcome is not None:
            score[outcome] += 1
    pairs = sorted(best[reference].keys() & best[method].keys())
    differences = [best[reference][pair] - best[method][pair] for pair in pairs]
    return Duel(
        reference=reference,
        method=method,
        wins=score["win"],
        ties=score["tie"],
        losses=score["loss"],
        pairs=len(pairs),
        difference=float(np.mean(differences)) if differences else None,
        interval=bootstrap_by_budget(pairs, differences, generator),
    )


def bootstrap_by_budget(
    pairs: Sequence[tuple[str, int]], differences: Sequence[float], generator: np.random.Generator
) -> tuple[float, float] | None:
    """Cluster bootstrap interval of the mean difference: resamples whole budgets (their seeds are dependent)."""
    by_budget: dict[str, list[float]] = {}
    for (budget, _), difference in zip(pairs, differences, strict=True):
        by_budget.setdefault(budget, []).append(difference)
    return bootstrap_mean([float(np.mean(values)) for values in by_budget.values()], generator)


def _winner_accuracy(table: pd.DataFrame, budget: str, method: str) -> float | None:
    row = method_winner(table, budget, method)
    return None if row is None else float(table["accuracy"].iloc[row])


def _outcome(reference: float | None, other: float | None, tie: float) -> str | None:
    if reference is None and other is None:
        return None
    if other is None or (reference is not None and reference - other > tie):
        return "win"
    return "loss" if reference is None or other - reference > tie else "tie"
