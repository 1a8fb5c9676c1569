"""Address of a trial database as given by users. Without SQLAlchemy, so that a supervisor stays small."""

from __future__ import annotations

import re

DEFAULT_STORAGE = "sqlite:///mcusweep.db"
STORAGE_VARIABLE = "MCUSWEEP_STORAGE"
"""Environment variable that holds the address instead of ``--storage``, which every user of a machine can read."""

_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):\S*@|(?<=[?&])password=[^&\s]*&?")


def without_password(text: str) -> str:
    """The text without the passwords of database addresses, including malformed ones."""
    return _PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] is not None else "", text)
