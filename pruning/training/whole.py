"""An outcome in terms of the dense network: groups that were removed, in a job or before it, have no channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mcu.graph.graph import Graph, Group
from pruning.training.problem import Outcome


def _origin(group: Group, groups: Iterable[Group]) -> Group:
    """The group of the whole network whose channels these were."""
    found = [whole for whole in groups if set(group.producers) <= set(whole.producers)]
    return min(found, key=lambda whole: (len(whole.producers), whole.part != group.part))


def by_whole(outcome: Outcome, whole: Graph, graphs: Iterable[Graph]) -> Outcome:
    """The outcome by the groups of the dense network; groups removed with a branch have no channels.

    Args:
        outcome: of a job.
        whole: the dense network.
        graphs: the network at the beginning of the job and at its end.
    """
    names = [group.name for group in whole.groups]
    places = {
        len(graph.groups): [names.index(_origin(group, whole.groups).name) for group in graph.groups]
        for graph in graphs
    }

    def spread(widths: Sequence[Any]) -> list[Any]:
        row = [0] * len(names)
        for place, width in zip(places[len(widths)], widths, strict=True):
            row[place] += width
        return row

    rows: list[Any] = outcome.trajectory
    return replace(
        outcome,
        widths=dict(zip(names, spread(list(outcome.widths.values())), strict=True)),
        dense_widths=whole.by_group(whole.channels),
        trajectory=[row | {"widths": spread(row["widths"])} for row in rows],
    )
