"""Memory of a stored trial's model during inference, its front end, and its estimated latency."""

from __future__ import annotations

import json
from typing import Any

from mcu.devices import find_device
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


def latency_of(trial: TrialDetails) -> dict[str, Any]:
    """``latency_ms`` and ``latency_assumes``; empty if no firmware was run for a known device."""
    instructions, name = trial.row["instructions"], trial.row["device"]
    if not instructions or not name:
        return {}
    from mcu.firmware.cores import core_of

    try:
        device = find_device(name)
        cycles = core_of(device).cycles_per_instruction
    except InputError:
        return {}
    return {
        "latency_ms": 1000.0 * instructions * cycles / device.clock_hz,
        "latency_assumes": f"{cycles:g} cycles an instruction at {device.clock_hz / 1e6:g} MHz",
    }
