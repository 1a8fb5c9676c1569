"""Memory of a stored trial's model during inference, and its front end."""

from __future__ import annotations

import json
from typing import Any

from mcu.errors import InputError
from orchestrator.queries.trial import TrialDetails
from orchestrator.storage.artifacts import Artifacts


def memory_of(trial: TrialDetails, files: Artifacts) -> list[dict[str, Any]]:
    """Per operator in order: ``layer``, ``kind`` and ``live``, the bytes of activations alive while it runs.

    Empty if the trial has no model, or its file is missing.
    """
    from mcu.cost.arena import live_memory
    from mcu.tflite.reader import read_tflite

    try:
        model = read_tflite(trial.read("model", files))
    except InputError:
        return []
    live = live_memory(model)
    names = [op.name or model.tensors[op.output].name or str(op.kind) for op in model.ops]
    if len(set(names)) < len(names):
        names = [f"{at} {name}" for at, name in enumerate(names, 1)]
    return [
        {"layer": name, "kind": str(op.kind), "live": size}
        for name, op, size in zip(names, model.ops, live, strict=True)
    ]


def front_end_of(trial: TrialDetails, files: Artifacts) -> dict[str, Any]:
    """``front_end`` with its parameters and its cost in addition to the network; empty if the trial has none."""
    try:
        entry = json.loads(trial.read("deployment", files)).get("front_end")
    except InputError:
        return {}
    return {"front_end": entry} if entry else {}
