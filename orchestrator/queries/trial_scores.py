"""How a stored trial's model fares class by class, from the score card among its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcu.errors import InputError
from orchestrator.tables import printable
from reports.metric import TITLES

if TYPE_CHECKING:
    from orchestrator.queries.trial import TrialDetails


def scores_of(trial: TrialDetails, root: Path) -> dict[str, Any]:
    """``test`` and ``val``, each with ``accuracy``, ``macro_f1``, ``classes`` and ``confusion``; see ``score_card``.

    Empty where the trial has no score card, or its file is not at hand.
    """
    from orchestrator.queries.export import read_artifact

    try:
        scores: dict[str, Any] = json.loads(read_artifact(trial, "scores", root))
    except InputError:
        return {}
    return scores


def score_lines(scores: Mapping[str, Any]) -> list[str]:
    """Both metrics of the int8 model in test and validation, then precision, recall and F1 of each class in test."""
    lines = ["Scores of the int8 model"]
    for split, title in (("test", "test"), ("val", "validation")):
        both = ", ".join(f"{words} {scores[split][metric]:.2%}" for metric, words in TITLES.items())
        lines.append(f"  {title:12} {both}")
    lines.append(f"  {'class in test':24} {'precision':>9} {'recall':>9} {'F1':>9} {'samples':>9}")
    for row in scores["test"]["classes"]:
        shares = " ".join(f"{row[name]:9.2%}" for name in ("precision", "recall", "f1"))
        lines.append(f"  {printable(row['name'])[:24]:24} {shares} {row['samples']:9,}")
    return lines
