"""Ranking of methods in each (task, budget): means over seeds, paired differences, and ties."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from reports.comparison.comparison import TIE
from reports.intervals import bootstrap_mean


class Place(StrEnum):
    """Class of a method in a cell; ``tied``: not significantly behind the first; ``missed``: budget not met."""

    FIRST = "first"
    TIED = "tied"
    BEHIND = "behind"
    MISSED = "missed"


@dataclass(frozen=True)
class Standing:
    """One method in one (task, budget).

    Attributes:
        tried, met: seeds that finished, and those with a model within the budget.
        mean, spread, interval: of the test accuracy over the seeds that met it; sample standard deviation; bootstrap.
        behind, behind_interval: how far the first is ahead, as the mean of differences at equal seeds.
        gain, gain_interval: how far this method is ahead of the reference, likewise.
        rank: by mean, 1 is best, ties share a rank; methods that missed share the last ranks.
    """

    task: str
    budget: str
    method: str
    tried: int
    met: int
    mean: float | None
    spread: float | None
    interval: tuple[float, float] | None
    behind: float | None
    behind_interval: tuple[float, float] | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    rank: float
    place: Place


Difference = tuple[float | None, tuple[float, float] | None]


def standings(scores: pd.DataFrame, reference: str = "differentiable", seed: int = 0) -> list[Standing]:
    """Every method in every cell of `seed_scores`, in its order.

    First is the highest mean among the methods that met the budget with every seed. A method is tied with it when the
    bootstrap interval of their paired difference reaches 0, or the difference is under ``comparison.TIE``. With three
    seeds that interval spans the three differences: a method is behind only if it is behind with every seed.
    """
    generator = np.random.default_rng(seed)
    found: list[Standing] = []
    for (task, budget), cell in scores.groupby(["task", "budget"], sort=False):
        found += _cell(str(task), str(budget), cell, reference, generator)
    return found


def _cell(task: str, budget: str, cell: pd.DataFrame, reference: str, generator: np.random.Generator) -> list[Standing]:
    sample = {str(name): part.set_index("seed")["accuracy"] for name, part in cell.groupby("method", sort=False)}
    means = {name: float(values.mean()) for name, values in sample.items()}
    ranks = pd.Series(means).fillna(-1.0).rank(ascending=False)
    whole = {name: means[name] for name, values in sample.items() if values.notna().all()}
    first = max(whole, key=lambda name: whole[name]) if whole else None
    return [_standing(task, budget, name, sample, first, reference, float(ranks[name]), generator) for name in sample]


def _standing(
    task: str,
    budget: str,
    name: str,
    sample: dict[str, pd.Series],
    first: str | None,
    reference: str,
    rank: float,
    generator: np.random.Generator,
) -> Standing:
    mine = sample[name].dropna()
    behind, behind_interval = _difference(sample.get(first or ""), sample[name], generator)
    gain, gain_interval = _difference(sample[name], sample.get(reference), generator)
    return Standing(
        task=task,
        budget=budget,
        method=name,
        tried=len(sample[name]),
        met=len(mine),
        mean=float(mine.mean()) if len(mine) else None,
        spread=float(mine.std(ddof=1)) if len(mine) > 1 else None,
        interval=bootstrap_mean(mine.tolist(), generator),
        behind=behind,
        behind_interval=behind_interval,
        gain=gain,
        gain_interval=gain_interval,
        rank=rank,
        place=_place(name == first, len(mine), len(sample[name]), behind, behind_interval),
    )


def _difference(one: pd.Series | None, other: pd.Series | None, generator: np.random.Generator) -> Difference:
    if one is None or other is None:
        return None, None
    paired = (one - other).dropna()
    if not len(paired):
        return None, None
    return float(paired.mean()), bootstrap_mean(paired.tolist(), generator)


def _place(is_first: bool, met: int, tried: int, behind: float | None, interval: tuple[float, float] | None) -> Place:
    if is_first:
        return Place.FIRST
    if not met:
        return Place.MISSED
    if met < tried or behind is None:
        return Place.BEHIND
    return Place.TIED if behind <= TIE or (interval is not None and interval[0] <= 0) else Place.BEHIND
