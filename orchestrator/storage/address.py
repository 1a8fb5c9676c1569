"""How users write the address of a trial database. No SQLAlchemy, so that a supervisor stays small."""

from __future__ import annotations

import re

DEFAULT_STORAGE = "sqlite:///mcusweep.db"
STORAGE_VARIABLE = "MCUSWEEP_STORAGE"
"""Environment variable that holds the address instead of ``--storage``, which every user of a machine can read."""

_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):\S*@|(?<=[?&])password=[^&\s]*&?")


def without_password(text: str) -> str:
    """Text with the password of every database address in it left out; also of those that are written wrongly."""
    return _PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] is not None else "", text)
