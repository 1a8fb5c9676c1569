"""Writes a comparison of methods across tasks and budgets: a page in Markdown, its figures, tables and the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mcu.errors import InputError
from mcu.terms import TrialState
from mcu.units import format_bytes, format_count
from reports.comparison.ranking import Ranking, ranking, share_first_or_tied, tallies
from reports.comparison.seed_scores import joined, seed_scores
from reports.comparison.standings import Standing, standings
from reports.comparison.volumes import Volume, frames, largest, volumes
from reports.comparison_page.tables import cells_table, cost_table, gains_table, ranks_table, volumes_table
from reports.figures.cells import cells_figure, fronts_figure, ranks_figure, surfaces_figure
from reports.figures.style import Style, encode, styled
from reports.table import Table, percent
from reports.trials import tidy

SAMPLE, CHARGED = "sample.csv", "charged.csv"


@dataclass(frozen=True)
class Comparison:
    """All computed results, before drawing.

    Attributes:
        tasks: in order.
        charged: per task, trials whose flash was charged and not measured, with their reasons.
    """

    reference: str
    tasks: tuple[str, ...]
    scores: pd.DataFrame
    standings: list[Standing]
    ranking: Ranking
    volumes: list[Volume]
    charged: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """Methods by average rank; those that were not run in all cells last."""
        return list(dict.fromkeys([*self.ranking.ranks, *(s.method for s in self.standings)]))


@dataclass(frozen=True)
class Kept:
    """Results of an earlier comparison by the same protocol, for methods that are not run again.

    Attributes:
        scores: its ``sample.csv``.
        charged: as ``Comparison.charged``, from its ``charged.csv``.
    """

    scores: pd.DataFrame
    charged: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """From the folder that ``write_comparison`` wrote.

        Raises:
            InputError: there is no comparison in it.
        """
        sample, charged = folder / SAMPLE, folder / CHARGED
        if not sample.is_file():
            raise InputError(f"{folder}: holds no {SAMPLE}; allowed is the folder of a comparison")
        rows = pd.read_csv(charged) if charged.is_file() else pd.DataFrame(columns=["task", "trial"])
        return cls(pd.read_csv(sample), {str(task): part["trial"].tolist() for task, part in rows.groupby("task")})


def compare(
    tables: Mapping[str, pd.DataFrame], reference: str = "differentiable", kept: Kept | None = None
) -> Comparison:
    """Compare the methods in a table of trials per task.

    Args:
        tables: one row per trial, in the columns of the trial table, per task.
        reference: the method that the others are compared with.
        kept: scores of methods and tasks that have no trial in ``tables``.

    Raises:
        InputError: no trial has finished.
    """
    tidied = {task: tidy(frame) for task, frame in tables.items()}
    scores = seed_scores(tidied)
    charged = {task: _charged(table) for task, table in tidied.items()}
    tasks = tuple(tables)
    if kept is not None:
        scores = joined(scores, kept.scores)
        tasks = tuple(dict.fromkeys([*kept.scores["task"], *tables]))
        charged = {task: [*charged.get(task, ()), *kept.charged.get(task, ())] for task in tasks}
    if scores.empty:
        raise InputError(f"comparison of {', '.join(tables) or 'no task'}: no trial has finished yet")
    found = standings(scores, reference)
    return Comparison(reference, tasks, scores, found, ranking(found), volumes(scores, reference), charged)


def write_comparison(
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    *,
    heading: str = "",
    reference: str = "differentiable",
    kept: Kept | None = None,
) -> Path:
    """Write ``README.md``, ``sample.csv``, ``charged.csv``, ``figures/`` and ``tables/`` into ``folder``.

    Args:
        tables, reference, kept: as for ``compare``.
        heading: Markdown above the tables: what was run and how.

    Returns:
        The page.
    """
    found = compare(tables, reference, kept)
    figures, drawn = folder / "figures", _figures(found)
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        with styled(Style.SCREEN):
            for kind, content in encode(figure, ("png", "svg"), dpi=160).items():
                (figures / f"{name}.{kind}").write_bytes(content)
    shown = _tables(found)
    for table in shown:
        (folder / "tables" / f"{table.name}.csv").write_text(table.as_csv(), "utf-8")
    found.scores.to_csv(folder / SAMPLE, index=False, lineterminator="\n")
    charged = [{"task": task, "trial": line} for task, lines in found.charged.items() for line in lines]
    pd.DataFrame(charged, columns=["task", "trial"]).to_csv(folder / CHARGED, index=False, lineterminator="\n")
    page = folder / "README.md"
    page.write_text(_page(found, shown, list(drawn), heading), "utf-8")
    return page


def _tables(found: Comparison) -> list[Table]:
    return [
        ranks_table(found.ranking, tallies(found.standings, found.reference), found.standings, found.reference),
        *(cells_table(found.standings, found.order, task) for task in found.tasks),
        gains_table(found.standings, found.reference),
        volumes_table(found.volumes, found.reference),
        cost_table(found.scores),
    ]


def _figures(found: Comparison) -> dict[str, Figure]:
    with styled(Style.SCREEN):
        drawn = {
            "cells": cells_figure(found.standings, found.order, found.reference),
            "ranks": ranks_figure(found.ranking, found.reference),
        }
        for task in found.tasks:
            drawn[f"fronts_{task}"] = fronts_figure(found.scores, task, found.ranking)
            for resource in ("flash", "sram"):
                surfaces = surfaces_figure(found.scores, task, found.reference, found.order, resource)
                drawn[f"attainment_{resource}_{task}"] = surfaces
    return {name: figure for name, figure in drawn.items() if figure is not None}


TIES = (
    "** first, * tied with the first: the bootstrap interval of the paired difference over seeds reaches 0, or the "
    "difference is under 0.1 points. With three seeds that means: not behind with every seed."
)
UNUSED = (
    "- hypervolume counts what a model really uses: room left under a bound makes it count at smaller budgets, too; "
    "a resource without a bound that is used freely makes it count at larger ones only."
)
CAPTIONS = {
    "cells": "Mean test accuracy over seeds at each budget, with bootstrap intervals.",
    "ranks": "Average ranks. Shaded: within the critical difference of the reference.",
    "fronts": "Mean accuracy against what the models use; bars from the worst to the best seed.",
    "attainment": "Attainment surfaces: each method (orange) and the reference (blue); shade: worst to best seed.",
}


def _page(found: Comparison, tables: Sequence[Table], figures: Sequence[str], heading: str) -> str:
    parts = [heading.strip(), _summary(found)]
    for table in tables:
        parts.append(f"## {table.title}\n\n{table.as_markdown()}")
        parts += [_picture(name) for name in figures if _belongs(name, table.name)]
    charged = [f"- {task}: {reason}" for task, reasons in found.charged.items() for reason in reasons]
    if charged:
        parts.append("## Unstructured pruning, with index storage charged\n\n" + "\n".join(charged))
    return "\n\n".join(part for part in parts if part) + "\n"


def _belongs(figure: str, table: str) -> bool:
    if table == "ranks":
        return figure in ("cells", "ranks")
    task = table.removeprefix("cells_")
    return table.startswith("cells_") and figure.endswith(f"_{task}")


def _picture(name: str) -> str:
    return f"![{CAPTIONS[name.split('_')[0]]}](figures/{name}.png)"


def _summary(found: Comparison) -> str:
    part, rank = share_first_or_tied(found.standings, found.reference), found.ranking
    cells = {(s.task, s.budget) for s in found.standings}
    lines = [f"Reference: {found.reference}. {len(found.order)} methods, {len(cells)} (task, budget) cells.", ""]
    if part is not None:
        lines.append(f"- {found.reference} is first or tied for first in {100 * part:.0f} % of its cells.")
    lines += [f"- largest hypervolume on {task}: {largest(found.volumes, task) or 'none'}." for task in found.tasks]
    if rank.p_value is not None and rank.critical_difference is not None:
        lines.append(
            f"- Friedman's test over {rank.cells} cells: p = {rank.p_value:.2g}; critical difference of average ranks "
            f"{rank.critical_difference:.2f}."
        )
    return "\n".join([*lines, *_references(found), "", TIES])


def _references(found: Comparison) -> list[str]:
    lines = []
    for task, frame in frames(found.scores).items():
        box = frame.box
        sizes = f"{format_bytes(int(box.high['flash']))} flash, {format_bytes(int(box.high['sram']))} SRAM"
        macs = format_count(int(box.high["macs"]))
        lines.append(
            f"- hypervolume on {task}: reference point accuracy {percent(frame.floor)} (the lowest mean of a cell) at "
            f"{sizes}, {macs} MACs; resources on a log scale that begins at the smallest model."
        )
    if lines:
        lines.append(UNUSED)
    return lines


def _charged(table: pd.DataFrame) -> list[str]:
    mine = table[(table["state"] == TrialState.INFEASIBLE) & table["accuracy"].notna() & table["reason"].notna()]
    return [
        f"{row['budget']}, seed {row['seed']}: {percent(row['accuracy'])} ({row['method']}: {row['reason']})"
        for row in mine.to_dict("records")
    ]
