"""The audio front end of a task, in addition to its network: in deployment, export and cost.

Its cost is reported separately. Where the budget bounds the C program (``runtime = "firmware"``) its flash and RAM are
part of what is bounded and of the trial's columns of the program, its instructions are not; elsewhere budgets are for
the network alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.front_end import FrontEnd

if TYPE_CHECKING:
    from mcu.cost.firmware_memory import FirmwarePlan
    from mcu.int8.model import Int8Model


def front_end_facts(front_end: FrontEnd | None, device: str | None, counts: bool) -> dict[str, Any]:
    """The entry ``front_end`` of a deployment: ``parameters``, and ``cost`` on the device if measurable.

    Empty for tasks without sound.

    Args:
        counts: whether the budget bounds it.
    """
    if front_end is None:
        return {}
    counted = {"counts": True} if counts else {}
    return {"front_end": {"parameters": asdict(front_end), "cost": _cost(front_end, device), **counted}}


def _cost(front_end: FrontEnd, device: str | None) -> dict[str, Any] | None:
    """Instructions, flash and RAM on a core that firmware is built for, where the tools are installed."""
    if device is None:
        return None
    from mcu.firmware.cores import core_of
    from mcu.firmware.front_end_run import measure_front_end

    try:
        core = core_of(find_device(device))
        return asdict(measure_front_end(front_end, core)) | {"core": core.name}
    except InputError:
        return None


def write_listening_project(
    model: Int8Model,
    facts: dict[str, Any],
    folder: Path,
    *,
    samples: np.ndarray | None,
    expected: np.ndarray | None,
    plan: FirmwarePlan | None = None,
    hop: int | None = None,
) -> str:
    """Write the C project with its front end; returns the text for the model card.

    Args:
        facts: a deployment that has a front end.

    Raises:
        InputError: if front end and network do not match, or the kernels cannot express the network.
    """
    from mcu.firmware.front_end import write_sound_project

    front_end = FrontEnd(**facts["front_end"]["parameters"])
    normalise = facts["normalise"]["mean"][0], facts["normalise"]["std"][0]
    given: dict[str, Any] = {"samples": samples, "expected": expected, "plan": plan, "hop": hop}
    write_sound_project(model, front_end, normalise, folder, **given)
    return f"\n\n{front_end_line(facts['front_end'])}"


def front_end_line(entry: dict[str, Any]) -> str:
    """Description of the front end of a deployment, with its cost in addition to the network."""
    parameters, cost = entry["parameters"], entry["cost"]
    front_end = FrontEnd(**parameters)
    window, stride = (1000 * samples / front_end.sample_rate for samples in (front_end.window, front_end.stride))
    what = (
        f"Front end: {front_end.samples:,} samples at {front_end.sample_rate:,} Hz, in frames of {window:g} ms every "
        f"{stride:g} ms, to {front_end.frames} x {front_end.values} {'centred ' if front_end.centred else ''}"
        f"{front_end.kind} features of {front_end.mels} mel bands from {front_end.low_hz:g} to {front_end.high_hz:g} Hz"
    )
    if cost is None:
        return f"{what}; its cost was not measured."
    place = "inside" if entry.get("counts") else "outside"
    return (
        f"{what}; beside the network and {place} its budget it takes {cost['flash']:,} bytes of flash, {cost['ram']:,} "
        f"of RAM and {cost['instructions']:,} instructions a clip on a {cost['core']}; the window of samples, "
        f"{2 * front_end.window:,} bytes, is the application's."
    )
