"""Versions of mcusweep that trained the trials of a study: reused results may be of older ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mcu.terms import TrialState
from orchestrator.provenance import UNKNOWN, engine_at
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store, Study

_READ = ("number", "state", "finished_at", "reused_from", "spec_hash")


@dataclass(frozen=True)
class TrainedBy:
    """Complete trials of a study that a version of mcusweep trained, and how many of them were reused."""

    version: str
    trials: int
    reused: int


def trained_by(store: Store, study: Study) -> tuple[TrainedBy, ...]:
    """By version, sorted; a reused trial counts for the version that trained it first."""
    known: dict[str, tuple[Study | None, dict[int, dict[str, Any]]]] = {study.name: (study, _rows(store, study))}
    trials: Counter[str] = Counter()
    reused: Counter[str] = Counter()
    for row in known[study.name][1].values():
        if row["state"] == TrialState.COMPLETE:
            by = _version_of(store, study, row, known)
            trials[by] += 1
            reused[by] += row["reused_from"] is not None
    return tuple(TrainedBy(by, trials[by], reused[by]) for by in sorted(trials))


def versions_line(found: Sequence[TrainedBy]) -> str | None:
    """One line where several versions took part, or reused trials are of another version than this one."""
    here = version("mcusweep")
    if len(found) < 2 and not any(each.reused and each.version != here for each in found):
        return None
    parts = (f"{each.version}: {each.trials}" + f" ({each.reused} reused)" * (each.reused > 0) for each in found)
    return f"trials by version of mcusweep that trained them: {', '.join(parts)}; this is {here}"


def _rows(store: Store, study: Study) -> dict[int, dict[str, Any]]:
    with trial_search(store, None, [study.id], parameters=False) as search:
        return {row["number"]: row for row in search.rows(_READ)}


def _version_of(
    store: Store, study: Study, row: Mapping[str, Any], known: dict[str, tuple[Study | None, dict[int, dict[str, Any]]]]
) -> str:
    """Follows a reused result to where it was trained; a trial there has the same specification."""
    seen: set[str] = set()
    while (origin := row["reused_from"]) is not None:
        name, _, number = origin.rpartition("#")
        if name not in known:
            there = store.find_study(name)
            known[name] = there, {} if there is None else _rows(store, there)
        source, rows = known[name]
        found = rows.get(int(number)) if number.isdecimal() else None
        if source is None or found is None or found["spec_hash"] != row["spec_hash"] or origin in seen:
            return UNKNOWN
        seen.add(origin)
        study, row = source, found
    return engine_at(study.versions, row["finished_at"])
