"""The tables of a comparison across tasks and budgets."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.comparison.ranking import Ranking, Tally
from reports.comparison.standings import Place, Standing
from reports.comparison.volumes import Volume
from reports.table import Table, percent

MARKS = {Place.FIRST: " **", Place.TIED: " *", Place.BEHIND: "", Place.MISSED: ""}


def cells_table(found: Sequence[Standing], order: Sequence[str], task: str) -> Table:
    """Methods in rows, the budgets of a task in columns: mean ± spread over seeds; ** first, * tied with the first."""
    mine = [s for s in found if s.task == task]
    labels = list(dict.fromkeys(s.budget for s in mine))
    by_key = {(s.method, s.budget): s for s in mine}
    rows = tuple((name, *(_cell(by_key.get((name, label))) for label in labels)) for name in order)
    return Table(f"cells_{task}", f"{task}: test accuracy by budget", ("method", *labels), rows)


def _cell(standing: Standing | None) -> str:
    if standing is None:
        return "not run"
    if standing.mean is None:
        return f"missed (0/{standing.tried})"
    spread = "" if standing.spread is None else f" ± {100 * standing.spread:.1f}"
    part = "" if standing.met == standing.tried else f" ({standing.met}/{standing.tried})"
    return f"{100 * standing.mean:.1f}{spread}{part}{MARKS[standing.place]}"


def gains_table(found: Sequence[Standing], reference: str) -> Table:
    """How far the reference is ahead of each method in each cell: mean paired difference in points, with interval."""
    keys = list(dict.fromkeys((s.task, s.budget) for s in found))
    names = list(dict.fromkeys(s.method for s in found if s.method != reference))
    by_key = {(s.method, s.task, s.budget): s for s in found}
    rows = tuple((task, budget, *(_gain(by_key.get((name, task, budget))) for name in names)) for task, budget in keys)
    return Table("gains", f"{reference} minus each method, in points (95 %)", ("task", "budget", *names), rows)


def _gain(standing: Standing | None) -> str:
    if standing is None:
        return "not run"
    if standing.gain is None:
        return "missed" if not standing.met else "–"
    return _points(-standing.gain, _negated(standing.gain_interval))


def _negated(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (-interval[1], -interval[0])


def _points(value: float, interval: tuple[float, float] | None) -> str:
    text = f"{100 * value:+.2f}"
    return text if interval is None else f"{text} ({100 * interval[0]:+.2f} to {100 * interval[1]:+.2f})"


def ranks_table(found: Ranking, tallies: Sequence[Tally], standings: Sequence[Standing], reference: str) -> Table:
    """Average rank, cells first or tied, and the reference's wins over each method."""
    duels = {tally.method: tally for tally in tallies}
    rows = []
    for name in dict.fromkeys([*found.ranks, *(s.method for s in standings)]):
        places = [s.place for s in standings if s.method == name]
        rank = f"{found.ranks[name]:.2f}" if name in found.ranks else "–"
        duel = duels.get(name)
        against = "–" if duel is None else f"{duel.won} / {duel.even} / {duel.lost}"
        counts = tuple(str(places.count(place)) for place in Place)
        rows.append((name, rank, *counts, against))
    header = ("method", "average rank", *(place.value for place in Place), f"{reference} won / even / lost")
    return Table("ranks", "Ranks and duels over all cells", header, tuple(rows))


def volumes_table(found: Sequence[Volume], reference: str) -> Table:
    """Hypervolume by method and task with intervals over seeds, and paired to the reference."""
    rows = tuple(
        (
            volume.task,
            volume.method,
            percent(volume.mean, 2)
            + ("" if volume.interval is None else f" ({100 * volume.interval[0]:.2f}–{100 * volume.interval[1]:.2f})"),
            "–" if volume.gain is None else _points(volume.gain, volume.gain_interval),
            percent(volume.from_zero, 2),
            percent(volume.linear, 2),
        )
        for volume in sorted(found, key=lambda volume: (volume.task, -volume.mean))
    )
    gain = f"minus {reference}, in points (95 %)"
    header = ("task", "method", "hypervolume (95 %)", gain, "from accuracy 0", "linear, from the unpruned network")
    return Table("hypervolume", "Hypervolume", header, rows)


def cost_table(scores: pd.DataFrame) -> Table:
    """Time of each method on each task, and its accuracy, where a missed budget counts as 0.

    Times are those of workers with one core each; under other load they exceed the CPU time.
    """
    rows = []
    for (task, method), part in scores.groupby(["task", "method"], sort=False):
        hours = float(part["duration_s"].sum()) / 3600
        reached = float(part["accuracy"].fillna(0.0).mean())
        a_trial = 60 * hours / max(1, int(part["trials"].sum()))
        bought = "–" if hours <= 0 or reached <= 0 else f"{100 * reached * len(part) / hours:,.0f}"
        rows.append((str(task), str(method), str(int(part["trials"].sum())), f"{a_trial:.2f}", f"{hours:.2f}",
                     percent(reached), bought))  # fmt: skip
    header = ("task", "method", "trials", "core minutes a trial", "core hours", "mean accuracy, missed as 0",
              "points per core hour")  # fmt: skip
    return Table("cost", "Accuracy and compute", header, tuple(rows))
