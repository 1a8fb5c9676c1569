"""Sampling, workers, early stopping, the trial database, queries and the command line.

``from orchestrator import open_study`` opens a stored study for reading.
"""

from __future__ import annotations

from typing import Any

__all__ = ["open_study"]


def __getattr__(name: str) -> Any:
    if name == "open_study":  # on demand: importing the package must stay free of the database
        from orchestrator.queries.open_study import open_study

        return open_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
