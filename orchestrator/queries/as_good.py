"""Models of a study that cannot be told apart from one another on the validation samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcu.errors import InputError
from orchestrator.spec import VALIDATION
from orchestrator.storage.artifacts import Artifacts
from reports.apart import Validation

SHOWN = 6
"""References of equals that a line names."""


def validation_in(files: Artifacts, artifacts: Mapping[str, Mapping[str, Any]]) -> Validation | None:
    """How a trial's model answered the validation samples, from its files; None where that was not kept."""
    kept = artifacts.get(VALIDATION)
    if kept is None:
        return None
    try:
        return Validation.decode(files.read(kept["path"], kept["sha256"], VALIDATION))
    except InputError:
        return None


def validations(files: Artifacts, artifacts: Mapping[int, Mapping[str, Any]]) -> Callable[[int], Validation | None]:
    """The same by the trial's number; ``artifacts`` are the notes of each trial's files."""
    return lambda number: validation_in(files, artifacts[number])


def equals_line(names: Sequence[str], samples: int) -> str:
    """Which models cannot be told apart from the highest, as people read it; empty where there are none."""
    if not names:
        return ""
    named = f"trial{'s' * (len(names) > 1)} {', '.join(names[:SHOWN])}"
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{named}{rest} {'are' if len(names) > 1 else 'is'} as good on {samples:,} validation samples (McNemar, 5 %)"
