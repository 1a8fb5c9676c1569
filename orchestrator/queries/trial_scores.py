"""Metrics by class of a stored trial's model, from the score card in its files."""

from __future__ import annotations

import json
from typing import Any

from mcu.errors import InputError
from orchestrator.queries.trial import TrialDetails
from orchestrator.storage.artifacts import Artifacts


def scores_of(trial: TrialDetails, files: Artifacts) -> dict[str, Any]:
    """``test`` and ``val``, each with ``accuracy``, ``macro_f1``, ``classes`` and ``confusion``; see ``score_card``.

    Empty if the trial has no score card, or its file is missing.
    """
    try:
        scores: dict[str, Any] = json.loads(trial.read("scores", files))
    except InputError:
        return {}
    return scores
