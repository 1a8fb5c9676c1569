"""Hypervolume of each method on each task, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES
from reports.comparison.seed_scores import DENSE
from reports.fronts import Box, box_of, hypervolume
from reports.intervals import bootstrap_mean


@dataclass(frozen=True)
class Volume:
    """A method's hypervolume on a task: mean over seeds with its interval, and paired to the reference.

    Attributes:
        by_seed: above the floor of the task, as a fraction of the maximum.
        from_zero: mean over seeds of the same with accuracy 0 as reference point.
        linear: mean over seeds of the same with resources on a linear scale as fractions of the unpruned network's,
            which is the reference point; NaN if that is unknown.
        gain, gain_interval: this method minus the reference at equal seeds.
    """

    task: str
    method: str
    by_seed: dict[int, float]
    from_zero: float
    linear: float
    mean: float
    interval: tuple[float, float] | None
    gain: float | None
    gain_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Frame:
    """Box and reference point of a task's hypervolumes: the same for every method, and stated with every figure.

    Attributes:
        box: from the smallest to the largest measurement of any method's models, on a logarithmic scale.
        floor: accuracy of the reference point: the lowest mean over seeds of any method at any budget. With reference
            accuracy 0 the volume would hardly depend on accuracy: a method that leaves its budgets unused would beat a
            more accurate one.
        dense: resources of the unpruned network, ``(3,)``; NaN if no trial has them.
    """

    box: Box
    floor: float
    dense: np.ndarray


def frames(scores: pd.DataFrame) -> dict[str, Frame]:
    """The frame of each task that has a model."""
    found = {}
    for task, part in scores.groupby("task", sort=False):
        box = box_of({name: part[name] for name in RESOURCES})
        if box is not None:
            floor = float(part.groupby(["budget", "method"])["accuracy"].mean().min())
            found[str(task)] = Frame(box, floor, part[DENSE].max().to_numpy(dtype=float))
    return found


def volumes(scores: pd.DataFrame, reference: str = "differentiable", seed: int = 0) -> list[Volume]:
    """The hypervolume of each method and task over the models of one seed at all budgets, see ``fronts.Box``."""
    generator = np.random.default_rng(seed)
    by_task = frames(scores)
    found: list[Volume] = []
    for task, part in scores.groupby("task", sort=False):
        frame = by_task.get(str(task))
        if frame is None:
            continue
        groups = {str(name): rows for name, rows in part.groupby("method", sort=False)}
        own = _by_seed(groups[reference], frame.box, frame.floor) if reference in groups else {}
        found += [_volume(str(task), name, rows, frame, own, generator) for name, rows in groups.items()]
    return found


def _by_seed(rows: pd.DataFrame, box: Box, floor: float) -> dict[int, float]:
    found = {}
    for seed, part in rows.groupby("seed"):
        scaled = box.scale({name: part[name] for name in RESOURCES}, RESOURCES)
        found[int(str(seed))] = hypervolume(scaled, (part["accuracy"] - floor) / (1 - floor))
    return found


def _linear(rows: pd.DataFrame, dense: np.ndarray, floor: float) -> float:
    """Mean over seeds of the hypervolume that the unpruned network's resources ``(3,)`` bound."""
    if not np.isfinite(dense).all():
        return float("nan")
    parts = [part for _, part in rows.groupby("seed")]
    shares = [part[list(RESOURCES)].to_numpy(dtype=float) / dense for part in parts]
    heights = [(part["accuracy"] - floor) / (1 - floor) for part in parts]
    return float(np.mean([hypervolume(*pair) for pair in zip(shares, heights, strict=True)]))


def _volume(
    task: str,
    method: str,
    rows: pd.DataFrame,
    frame: Frame,
    reference: dict[int, float],
    generator: np.random.Generator,
) -> Volume:
    values = _by_seed(rows, frame.box, frame.floor)
    paired = [values[seed] - reference[seed] for seed in values.keys() & reference.keys()]
    return Volume(
        task,
        method,
        values,
        float(np.mean(list(_by_seed(rows, frame.box, 0.0).values()))),
        _linear(rows, frame.dense, frame.floor),
        float(np.mean(list(values.values()))),
        bootstrap_mean(list(values.values()), generator),
        float(np.mean(paired)) if paired else None,
        bootstrap_mean(sorted(paired), generator),
    )


def largest(found: Sequence[Volume], task: str) -> str | None:
    """The method of the largest mean hypervolume on a task."""
    mine = [volume for volume in found if volume.task == task]
    return max(mine, key=lambda volume: volume.mean).method if mine else None
