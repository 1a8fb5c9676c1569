"""Validation of imported rows of studies and trials, value by value, against the format of this version."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mcu.errors import InputError
from orchestrator.planning.plan import least_of
from orchestrator.provenance import check_versions
from orchestrator.spec import FILES, Artifact, EpochReport, TrialSpec, canonical_json
from orchestrator.storage.records import asked_row, study_of, trial_of
from orchestrator.storage.row_values import check_values
from orchestrator.storage.schema import ATTEMPTS, EPOCH_REPORTS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.transfer import ATTEMPT_NAMES, REPORT_NAMES, REPORTS, STUDY_NAMES, TRIAL_NAMES
from search_spaces.sections import Name

MOST_FILE = 2**30
"""Bytes of one file of a trial."""

_PLACES = r"(?P<spec>[0-9a-f]{64})|(?:imported/)?(?P<content>[0-9a-f]{16})"
_PATH = re.compile(rf"(?:{_PLACES})/(?P<file>[a-z._]+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME: TypeAdapter[str] = TypeAdapter(Name)


def check_name(name: Any, where: str) -> None:
    """Refuse an invalid name of a sweep.

    Raises:
        InputError: it is empty, too long, or holds control characters.
    """
    try:
        if _NAME.validate_python(name, strict=True).strip() not in ("", ".", ".."):
            return
    except ValidationError:
        pass
    shown = repr(name)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    raise InputError(f"{where}: {shown} is no name of a study: allowed are 1 to 200 characters that can be printed")


def check_study(row: Any, where: str) -> None:
    """Refuse a row of the table of studies that is not valid for this version.

    Raises:
        InputError: what is wrong with it.
    """
    check_values(row, (STUDIES,), STUDY_NAMES, where)
    check_name(row["name"], where)
    try:
        study = study_of(row | {"id": 0})
        plain = (study.sweep, study.workers, study.versions, study.machine, study.task)
        if not all(isinstance(value, dict) for value in plain) or study.planned_trials < 0:
            raise ValueError("an object is missing")
        canonical_json(plain)  # infinite numbers are none of JSON
        check_versions(study.versions)
        least_of(study.task)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged ({_reason(error)})") from None


def check_trial(row: Any, where: str) -> None:
    """Refuse a row of the table of trials, with its trajectory and attempts, that is not valid for this version.

    Raises:
        InputError: what is wrong with it.
    """
    check_values(row, (TRIALS, TRAJECTORIES), TRIAL_NAMES, where)
    try:
        spec = TrialSpec.model_validate_json(row["spec_json"])
        trial_of(row | {"id": 0})
        steps = json.loads(row["trajectory_json"] or "[]")
        if not isinstance(steps, list) or not all(_is_step(step) for step in steps):
            raise ValueError("the trajectory is no list of reports")
        different = [name for name, value in asked_row(spec).items() if row[name] != value]
        if json.loads(row["hyperparameters_json"]) != spec.hyperparameters:
            different.append("hyperparameters_json")
        if different or row["number"] < 0:
            which = ", ".join(different[:3]) or "number"
            raise InputError(f"{where} is damaged: its specification and number do not agree with the rest ({which})")
        for attempt in _list(row["attempt_rows"]):
            check_values(attempt, (ATTEMPTS,), ATTEMPT_NAMES, f"{where}: an attempt")
            for report in _list(attempt[REPORTS]):
                check_values(report, (EPOCH_REPORTS,), REPORT_NAMES, f"{where}: a report")
        for name, note in json.loads(row["artifacts_json"] or "{}").items():
            _check_file(name, Artifact.model_validate(note), row["spec_hash"], where)
    except InputError:
        raise
    except (ValidationError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged ({_reason(error)})") from None


def _is_step(step: Any) -> bool:
    """Whether an entry of a trajectory is an object whose figures are numbers."""
    return isinstance(step, dict) and all(
        isinstance(step.get(name), int | float | None) for name in EpochReport.model_fields if name != "phase"
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value


def _check_file(name: str, note: Artifact, spec_hash: str, where: str) -> None:
    """Only files that trials have, where they have them: nothing else is written, whatever a bundle says."""
    found = _PATH.fullmatch(note.path)
    if found is None or FILES.get(name) != found["file"] or not _DIGEST.fullmatch(note.sha256):
        allowed = ", ".join(FILES.values())
        raise InputError(f"{where}: file {note.path[:120]!r} is none that a trial has; those are {allowed}")
    if found["spec"] not in (None, spec_hash) or found["content"] not in (None, note.sha256[:16]):
        raise InputError(f"{where}: file {note.path!r} lies in the folder of another trial")
    if not 0 <= note.bytes <= MOST_FILE:
        raise InputError(f"{where}: file {note.path!r} has {note.bytes} bytes; allowed are up to {MOST_FILE}")


def _reason(error: Exception) -> str:
    """The first line of what is wrong, not longer than a line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
