"""What is wrong with a database that a command stumbled over: found by checking every row, only once that happened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mcu.errors import InputError
from orchestrator.failures import RunFailed
from orchestrator.streams import UnwritableAnswer

_OURS = (InputError, RunFailed, UnwritableAnswer, OSError)


def naming_damage(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors name the damaged row, where a row of the database it was given is damaged.

    Reading believes a database, which is what makes it fast; nothing but a damaged one makes it fail. Should it fail on
    a sound one, that is a defect, and its error stays.
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
    """Refuse a database with a row that no version of this program wrote.

    Raises:
        InputError: naming the first such row.
    """
    from orchestrator.storage.connection import database_label
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of
    from search_spaces.sweep import SweepConfig

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
