"""Optuna's storage on a trial database, with the options of our own connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import exc
from sqlalchemy.engine import URL

from orchestrator.storage.connection import engine_options, watch_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_TRIES = 5


def read_only(url: URL) -> URL:
    """The address of a database with read-only option; for files, connections are read-only by themselves."""
    if url.get_backend_name() == "sqlite":
        return url
    return url.update_query_dict({"options": "-c default_transaction_read_only=on"})


def open_optuna(url: URL, *, writing: bool) -> RDBStorage:
    """Optuna's tables in a database, created if missing; without ``writing`` it is read-only.

    Two processes may create the tables at the same time: the second one finds them when it retries.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address, options = engine_options(url if writing else read_only(url), writing=writing)
    text = address if isinstance(address, str) else address.render_as_string(hide_password=False)
    text = text.replace("{", "{{").replace("}", "}}")  # Optuna takes an address for a template
    for left in reversed(range(_TRIES)):
        try:
            storage = optuna.storages.RDBStorage(
                text, engine_kwargs=options, skip_compatibility_check=not writing, skip_table_creation=not writing
            )
        except (exc.IntegrityError, exc.ProgrammingError, exc.OperationalError):
            if not left:
                raise
            time.sleep(0.2)
        else:
            break
    watch_file(storage.engine, url)
    return storage
