"""Metrics by class of a stored trial's model, from the score card in its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from orchestrator.queries.trial import TrialDetails


def scores_of(trial: TrialDetails, root: Path) -> dict[str, Any]:
    """``test`` and ``val``, each with ``accuracy``, ``macro_f1``, ``classes`` and ``confusion``; see ``score_card``.

    Empty if the trial has no score card, or its file is missing.
    """
    try:
        scores: dict[str, Any] = json.loads(trial.read("scores", root))
    except InputError:
        return {}
    return scores
