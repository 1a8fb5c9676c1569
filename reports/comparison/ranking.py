"""Methods over all (task, budget) cells together: average ranks, Friedman's test, the critical difference, duels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from reports.comparison.standings import Place, Standing


@dataclass(frozen=True)
class Ranking:
    """Average ranks (1 is best) of the methods that ran in every cell.

    Attributes:
        ranks: by method, best first.
        cells: number of (task, budget) cells they are averaged over.
        p_value: of Friedman's test that all methods are equal (None: fewer than three methods or two cells).
        critical_difference: average ranks closer than this do not differ by Nemenyi's test at 5 % (Demsar, JMLR 2006).
    """

    ranks: dict[str, float]
    cells: int
    p_value: float | None
    critical_difference: float | None


@dataclass(frozen=True)
class Tally:
    """The reference against one method over cells: won and lost where paired intervals exclude 0, otherwise tied."""

    method: str
    won: int
    even: int
    lost: int


def ranking(standings: Sequence[Standing]) -> Ranking:
    """Average ranks over the cells in which every ranked method was run."""
    rows = [{"cell": (s.task, s.budget), "method": s.method, "rank": s.rank} for s in standings]
    if not rows:
        return Ranking({}, 0, None, None)
    table = pd.DataFrame(rows).pivot(index="cell", columns="method", values="rank").dropna(axis=1)
    table = table.rank(axis=1)  # again, among those that are left
    mean = table.mean().sort_values(kind="stable")
    cells, count = table.shape
    tested = count >= 3 and cells >= 2
    p_value = float(friedmanchisquare(*(table[name] for name in table)).pvalue) if tested else None
    ranks = {str(name): float(value) for name, value in mean.items()}
    return Ranking(ranks, cells, p_value, critical_difference(count, cells) if tested else None)


def critical_difference(methods: int, cells: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks: ``q sqrt(k (k + 1) / 6N)`` (Demsar, JMLR 2006, eq. 6)."""
    quantile = float(studentized_range.ppf(1 - level, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * cells))


def tallies(standings: Sequence[Standing], reference: str = "differentiable") -> list[Tally]:
    """The reference against each other method, cell by cell; a budget missed by one of them counts for the other."""
    own = {(s.task, s.budget): s for s in standings if s.method == reference}
    names = list(dict.fromkeys(s.method for s in standings if s.method != reference))
    found = []
    for name in names:
        score = {"won": 0, "even": 0, "lost": 0}
        for other in standings:
            mine = own.get((other.task, other.budget))
            if other.method == name and mine is not None and (outcome := _outcome(mine, other)):
                score[outcome] += 1
        found.append(Tally(name, **score))
    return found


def _outcome(mine: Standing, other: Standing) -> str | None:
    if not mine.met or not other.met:
        return None if not mine.met and not other.met else "won" if mine.met else "lost"
    if other.gain_interval is None or other.gain_interval[0] <= 0 <= other.gain_interval[1]:
        return "even"
    return "lost" if other.gain_interval[0] > 0 else "won"


def share_first_or_tied(standings: Sequence[Standing], method: str) -> float | None:
    """Fraction of the cells in which a method is first or tied for first (None: it was not run)."""
    places = [s.place for s in standings if s.method == method]
    return sum(place in (Place.FIRST, Place.TIED) for place in places) / len(places) if places else None
