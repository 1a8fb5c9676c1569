"""Diagnosis of a damaged database after a command failed: checks every row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mcu.errors import InputError
from orchestrator.failures import RunFailed
from orchestrator.streams import UnwritableAnswer

_OURS = (InputError, RunFailed, UnwritableAnswer, OSError)


def naming_damage(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command so that its error names the damaged row, if the database has one.

    Normal reads do not check rows, for speed, and fail only on a damaged database. A failure on an undamaged one is a
    defect, and its error is raised unchanged.
    """

    @functools.wraps(command)
    def careful(*given: Any, **named: Any) -> Any:
        try:
            return command(*given, **named)
        except Exception as error:
            parsing = hasattr(error, "exit_code")  # of the option parser
            if not isinstance(error, _OURS) and not parsing and isinstance(named.get("storage"), str):
                require_sound(named["storage"])
            raise

    return careful


def require_sound(storage: str) -> None:
    """Refuse a database with an invalid row; one that is not there has none.

    Raises:
        InputError: naming the first such row.
    """
    from orchestrator.storage.connection import database_file, database_label, parse_storage
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of
    from search_spaces.sweep import SweepConfig

    file = database_file(parse_storage(storage))
    if file is not None and not file.exists():
        return
    store = Store(storage)
    label = database_label(store.url)
    try:
        for study in store.studies():
            for _ in bundle_of(store, study).trials():
                pass
            SweepConfig.model_validate({**study.sweep, "workers": study.workers})
    except Exception as error:
        if isinstance(error, _OURS):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{label} is damaged ({type(error).__name__}: {reason})") from None
