"""Studies and trials as stored in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcu.budget import RESOURCES, Resources
from mcu.terms import FINAL_STATES, TrialState
from orchestrator.spec import Artifact, TrialResult, TrialSpec, canonical_json
from reports.columns import Part, names
from search_spaces.terms import ExecutorName

RESULT_NAMES = names(parts=(Part.RESULT,))


@dataclass(frozen=True)
class Study:
    """One sweep in the database.

    Attributes:
        sweep: its configuration without the section on workers, which ``workers`` holds.
        sweep_file: the text of its sweep file, if any.
        task: facts about the data at the start (shape, classes, counts).
    """

    id: int
    name: str
    sweep: dict[str, Any]
    sweep_file: str | None
    workers: dict[str, Any]
    planned_trials: int
    versions: dict[str, Any]
    machine: dict[str, Any]
    created_at: str
    task: dict[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """Metric of the accuracies of its trials; see ``mcu.score``."""
        training = self.sweep.get("training", {})
        return str(training.get("score") or training.get("metric", "accuracy"))

    @property
    def simulated(self) -> bool:
        """Whether its results come from the simulated executor and are not measurements."""
        return bool(self.workers.get("executor") == ExecutorName.SIMULATED)


@dataclass(frozen=True)
class StoredTrial:
    """One trial as stored."""

    id: int
    number: int
    state: TrialState
    attempts: int
    spec: TrialSpec
    result: TrialResult | None


def study_row(study: Study) -> dict[str, Any]:
    """Columns of a study's row, but for its id."""
    return {
        "name": study.name,
        "sweep_json": canonical_json(study.sweep),
        "sweep_file": study.sweep_file,
        "workers_json": canonical_json(study.workers),
        "planned_trials": study.planned_trials,
        "versions_json": canonical_json(study.versions),
        "machine_json": canonical_json(study.machine),
        "task_json": canonical_json(study.task),
        "created_at": study.created_at,
    }


def asked_row(spec: TrialSpec) -> dict[str, Any]:
    """Columns of a trial's row that come from its specification, apart from JSON."""
    return {
        "method": spec.method,
        "network": spec.network.name,
        "task": spec.task.name,
        "device": spec.device,
        "runtime": spec.runtime,
        "seed": spec.seed,
        **{f"budget_{name}": getattr(spec.budget, name) for name in RESOURCES},
        "spec_hash": spec.hash(),
    }


def planned_row(number: int, spec: TrialSpec) -> dict[str, Any]:
    """Columns of the row of a trial that has not begun."""
    return {
        "number": number,
        "state": TrialState.PLANNED.value,
        "attempts": 0,
        **asked_row(spec),
        "hyperparameters_json": canonical_json(spec.hyperparameters),
        "spec_json": spec.canonical(),
    }


def result_row(result: TrialResult) -> dict[str, Any]:
    """Columns of a trial's row that come from its result."""
    artifacts = {name: artifact.model_dump() for name, artifact in result.artifacts.items()}
    return {
        "state": result.state,
        "reason": result.reason,
        **{name: getattr(result, name) for name in RESULT_NAMES},
        **{f"dense_{name}": getattr(result.dense, name, None) for name in RESOURCES},
        "widths_json": canonical_json(result.widths),
        "dense_widths_json": canonical_json(result.dense_widths),
        "artifacts_json": canonical_json(artifacts),
    }


PLANNED_AGAIN = {
    **dict.fromkeys((*result_row(TrialResult(state=TrialState.FAILED)), "reused_from", "finished_at")),
    "state": TrialState.PLANNED.value,
}
"""Columns of a trial's row once its result is discarded."""


def study_of(row: Mapping[Any, Any]) -> Study:
    """A row of the table of studies."""
    return Study(
        id=row["id"],
        name=row["name"],
        sweep=json.loads(row["sweep_json"]),
        sweep_file=row["sweep_file"],
        workers=json.loads(row["workers_json"]),
        planned_trials=row["planned_trials"],
        versions=json.loads(row["versions_json"]),
        machine=json.loads(row["machine_json"]),
        created_at=row["created_at"],
        task=json.loads(row["task_json"]),
    )


def notes_in(text: str | None) -> dict[str, Artifact]:
    """The files of a trial by name, from the text in its row."""
    return {name: Artifact.model_validate(note) for name, note in json.loads(text or "{}").items()}


def result_of(row: Mapping[Any, Any]) -> TrialResult:
    """The result in a row of the table of trials, without its trajectory."""
    values = {name: row[name] for name in RESULT_NAMES} | {"measured": bool(row["measured"])}
    dense = [row[f"dense_{name}"] for name in RESOURCES]
    return TrialResult(
        state=row["state"],
        reason=row["reason"],
        dense=None if None in dense else Resources(*dense),
        widths=json.loads(row["widths_json"] or "{}"),
        dense_widths=json.loads(row["dense_widths_json"] or "{}"),
        artifacts=json.loads(row["artifacts_json"] or "{}"),
        **values,
    )


def trial_of(row: Mapping[Any, Any]) -> StoredTrial:
    """A row of the table of trials."""
    state = TrialState(row["state"])
    return StoredTrial(
        id=row["id"],
        number=row["number"],
        state=state,
        attempts=row["attempts"],
        spec=TrialSpec.model_validate_json(row["spec_json"]),
        result=result_of(row) if state in FINAL_STATES else None,
    )
