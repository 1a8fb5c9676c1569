"""The tree of trials that started from other trials' trained networks: accuracy and cost of each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Trial = Mapping[Any, Any]
"""A row of the table of trials; missing values are None."""


@dataclass(frozen=True)
class Step:
    """A trial in the tree.

    Attributes:
        branch: tree lines in front of it, for a fixed-width font; empty for a root.
        trial: as it was given.
        change: its validation accuracy less its ancestor's; None for a root, or if one is unknown.
    """

    branch: str
    trial: Trial
    change: float | None


def tree(trials: Sequence[Trial]) -> list[Step]:
    """Every lineage from its root down, ancestors before descendants; without trials outside a lineage.

    Args:
        trials: with ``number``, ``ancestor`` (a number or None) and ``val_accuracy``, by number.
    """
    heirs: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial["ancestor"] is not None:
            heirs.setdefault(int(trial["ancestor"]), []).append(trial)

    def below(trial: Trial, indent: str) -> Iterator[Step]:
        mine = heirs.get(trial["number"], [])
        for heir in mine:
            last = heir is mine[-1]
            known = heir["val_accuracy"] is not None and trial["val_accuracy"] is not None
            change = heir["val_accuracy"] - trial["val_accuracy"] if known else None
            yield Step(f"{indent}{'└' if last else '├'} ", heir, change)
            yield from below(heir, f"{indent}{' ' if last else '│'} ")

    roots = [trial for trial in trials if trial["ancestor"] is None and trial["number"] in heirs]
    return [step for root in roots for step in (Step("", root, None), *below(root, ""))]


def line_of(number: int, trials: Sequence[Trial]) -> list[Step]:
    """The part of the tree with one trial's ancestors and descendants; empty if it has neither."""
    ancestors = {trial["number"]: trial["ancestor"] for trial in trials}

    def above(at: int | None) -> list[int]:
        """A trial and its ancestors."""
        found: list[int] = []
        while at is not None:
            found.append(at)
            at = None if (before := ancestors.get(at)) is None else int(before)
        return found

    mine = set(above(number))
    return tree([trial for trial in trials if trial["number"] in mine or number in above(trial["number"])])


def charged(trials: Sequence[Trial]) -> dict[int, float]:
    """Seconds of every trial by number, including its share of the training time of the root of its lineage.

    A root's time is divided evenly between its descendants, so that it counts once in the sum; its own is then 0.
    """
    seconds = {trial["number"]: float(trial["duration_s"] or 0.0) for trial in trials}
    lines: dict[int, list[int]] = {}
    root = -1
    for step in tree(trials):
        if step.branch:
            lines[root].append(step.trial["number"])
        else:
            root = step.trial["number"]
            lines[root] = []
    for root, heirs in lines.items():
        whole, seconds[root] = seconds[root], 0.0
        for heir in heirs:
            seconds[heir] += whole / len(heirs)
    return seconds
