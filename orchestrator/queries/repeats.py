"""Trials that train another one again with other seeds, and how far their results lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from mcu.score import Score, score_of
from orchestrator.planning.plan import Plan
from orchestrator.running.run import stored_sweep
from orchestrator.storage.store import Study


def repeats_of(study: Study) -> dict[int, tuple[int, ...]]:
    """By number of a trial, the numbers of those that train it again with other seeds."""
    found: dict[int, tuple[int, ...]] = {}
    if study.sweep.get("repeats"):
        for trial in Plan(stored_sweep(study)).trials:
            if trial.repeats is not None:
                found[trial.repeats] = (*found.get(trial.repeats, ()), trial.number)
    return found


def seeds_lines(study: Study, validation: Mapping[int, float | None]) -> dict[int, str]:
    """By number, how well trials do that were trained with several seeds, as people read it.

    Args:
        validation: validation accuracy of each trial by number, or what the study is judged by.
    """
    lines = {}
    for first, later in repeats_of(study).items():
        alike = (first, *later)
        values = [value for number in alike if (value := validation.get(number)) is not None]
        if len(values) > 1:
            line = _line(sorted(values), score_of(study.metric))
            lines.update(dict.fromkeys(alike, line))
    return lines


def _line(values: list[float], score: Score) -> str:
    lowest, highest, middle = (score.shown(value, 1) for value in (values[0], values[-1], mean(values)))
    return f"trained with {len(values)} seeds: validation {score.title} {lowest} to {highest}, mean {middle}"
