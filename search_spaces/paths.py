"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str | Path) -> Path:
    """A path with ``~`` for the home folder; unchanged if the home folder is unknown (a bare container)."""
    return Path(os.path.expanduser(text))
