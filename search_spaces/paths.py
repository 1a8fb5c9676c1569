"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str | Path) -> Path:
    """A path with ``~`` for the home folder; where no home is known (a bare container) it stays as it is written."""
    return Path(os.path.expanduser(text))
