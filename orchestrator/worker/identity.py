"""The parts of a trial's specification that determine its dense network. Without torch, as the driver uses it."""

from __future__ import annotations

import hashlib
import json

from orchestrator.spec import TrialSpec

PARENTS = "parents"
"""Folder of dense networks that jobs share, in the artifact folder; below it one for each identity."""


def dense_identity(spec: TrialSpec) -> str:
    """Digest of the data and the initialised network, for sharing dense parents; empty if unknown."""
    if spec.data is None:
        return ""
    network = spec.network.model_copy(update={"frozen": (), "round_to": 1})  # the dense parent is the same
    decisive = spec.model_copy(update={"network": network}).model_dump(
        mode="json", include={"task", "network", "seed", "data", "ancestor", "code"}
    )
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def shared_parents(spec: TrialSpec) -> str | None:
    """Folder, in the artifact folder, of the dense networks that a trial shares with others; None if it shares none."""
    identity = dense_identity(spec)
    return f"{PARENTS}/{identity[:32]}" if identity else None
