"""Latency of stored trials: what boards measured, kept as a file of the trial, and estimates where none did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from mcu.board.latency import LATENCY, MeasuredLatency, read_latencies, with_latency, write_latencies
from mcu.devices import Device, find_device, same_program
from mcu.errors import InputError
from mcu.front_end import FrontEnd
from mcu.latency import Cycles, Latency, against_bound, estimate
from mcu.terms import RuntimeName
from orchestrator.queries.study_budgets import latency_bounds
from orchestrator.queries.trial import TrialDetails
from orchestrator.spec import Artifact
from orchestrator.storage.artifacts import Artifacts, TrialFiles, add_file, artifacts_of, trials_with
from orchestrator.storage.store import Store

CALIBRATION_MODELS = 32
"""Measured models of a device, the latest, by which its cycles per instruction are calibrated."""

CALIBRATION_ERROR = 0.1
"""Added to both ends of what they gave: another network has another mix of kernels."""


def measured_in(notes: Mapping[str, Any], files: Artifacts, label: str) -> tuple[MeasuredLatency, ...]:
    """What boards measured of a trial; empty if nothing, or if its file is missing or damaged."""
    if LATENCY not in notes:
        return ()
    note = Artifact.model_validate(notes[LATENCY])
    try:
        return read_latencies(files.read(note.path, note.sha256, label), label)
    except InputError:
        return ()


def keep_latency(store: Store, trial: TrialFiles, measured: MeasuredLatency) -> None:
    """Store a measurement beside a trial's model; it replaces that of the same device.

    Raises:
        InputError: the file cannot be written.
    """
    old = measured_in(trial.notes, artifacts_of(store), trial.label)
    add_file(store, trial.trial, LATENCY, write_latencies(with_latency(old, measured)))


def predicted_latency(store: Store, trial: TrialFiles, device: str) -> Latency | None:
    """The estimate for the network alone from predicted instructions; None where firmware is not built for it."""
    target = find_device(device)
    instructions, cycles = predicted_instructions(store, trial, target), cycles_on(store, target)
    return None if cycles is None or instructions is None else estimate(instructions, cycles, target.clock_hz)


def predicted_instructions(store: Store, trial: TrialFiles, device: Device) -> int | None:
    """Of a trial's exported program on a device; None where firmware is not built for it."""
    try:
        return _predicted(trial, artifacts_of(store), device)
    except InputError:
        return None


def _predicted(trial: TrialFiles, files: Artifacts, device: Device) -> int:
    """Predicted instructions of a trial's exported program. Raises InputError where there is none."""
    from mcu.firmware import core_of, predict_instructions
    from mcu.tflite.reader import read_tflite
    from orchestrator.worker.firmware_plan import plan_of

    data = {name: files.read(note.path, note.sha256, trial.label) for name, note in _program_files(trial).items()}
    model, facts = read_tflite(data["model"]), json.loads(data.get("deployment", "{}"))
    return predict_instructions(model, core_of(device), plan_of(model, facts, device.name)[0])


def _program_files(trial: TrialFiles) -> dict[str, Artifact]:
    return {name: trial.notes[name] for name in ("model", "deployment") if name in trial.notes}


def measured_cycles(store: Store, device: Device) -> Cycles | None:
    """Cycles per instruction of a device from the trusted models measured on it; None if there are none.

    Of each model measured time times clock is divided by the predicted instructions of its exported program; the
    median counts, and the range is that of all models, ``CALIBRATION_ERROR`` wider at both ends.
    """
    files, found = artifacts_of(store), dict[str, float]()
    for trial in reversed(trials_with(store, f'"{LATENCY}"', trusted=True)):
        own = [one for one in measured_in(trial.notes, files, trial.label) if one.device == device.name]
        if not own or "model" not in trial.notes or trial.notes["model"].sha256 in found:
            continue
        instructions = predicted_instructions(store, trial, device)
        if instructions is None:
            continue
        clock = own[0].core_hz or device.clock_hz
        found[trial.notes["model"].sha256] = own[0].microseconds * 1e-6 * clock / instructions
        if len(found) == CALIBRATION_MODELS:
            break
    if not found:
        return None
    which = f"{len(found)} model{'s' if len(found) > 1 else ''} measured on {device.name}"
    low, high = min(found.values()) * (1 - CALIBRATION_ERROR), max(found.values()) * (1 + CALIBRATION_ERROR)
    return Cycles(median(found.values()), low, high, f"by {which}")


def core_cycles(device: Device) -> Cycles | None:
    """Cycles per instruction of a device's core; None where firmware is not built for it."""
    from mcu.firmware import core_of

    try:
        return core_of(device).cycles
    except InputError:
        return None


def cycles_on(store: Store, device: Device) -> Cycles | None:
    """The best figure there is: of boards, else of the core; None where firmware is not built for the device."""
    core = core_cycles(device)
    return None if core is None else measured_cycles(store, device) or core


def measured_latencies(files: Artifacts, notes: Mapping[int, Mapping[str, Any]]) -> dict[tuple[int, str], Latency]:
    """What boards measured, by number of the trial and device.

    Args:
        notes: the files of trials by their numbers.
    """
    return {
        (number, one.device): _of_board(one)
        for number, own in notes.items()
        for one in measured_in(own, files, f"trial {number}")
    }


def _of_board(measured: MeasuredLatency) -> Latency:
    return Latency(measured.milliseconds, measured.least / 1000, measured.most / 1000, measured.origin())


def latency_of(store: Store, trial: TrialDetails, device: str | None = None) -> dict[str, Any]:
    """``latency_ms`` (the best figure), ``latency`` with its error, ``latency_origin``; empty if none is known.

    On the trial's own device or the given one, where only instructions that were counted on its core make an estimate.
    A measured latency is that of the network. An estimate includes the front end of sound where its instructions are
    known, ``latency_front_end_ms``. Where the trial's study bounds the latency on the device, ``latency_bound`` says
    whether the figure is within it.
    """
    name = device or trial.row["device"]
    if not name:
        return {}
    files = artifacts_of(store)
    on_board = [
        one for one in measured_in(trial.artifacts, files, f"trial {trial.row['number']}") if one.device == name
    ]
    estimated, front = _estimated(store, trial, files, name)
    if on_board:
        best = _of_board(on_board[0])
        before = {} if estimated is None else {"latency_estimated_ms": estimated.middle}
        figure = {"latency_ms": best.middle, "latency": best.text(), "latency_origin": best.origin, **before}
        return figure | _bound(store, trial, name, best.middle, front)
    if estimated is None:
        return {}
    return {
        "latency_ms": estimated.middle, "latency": estimated.told(), "latency_origin": estimated.origin,
        **({"latency_front_end_ms": front} if front else {}),
        **_bound(store, trial, name, estimated.middle - front, front),
    }  # fmt: skip


def step_latency(store: Store, trial: TrialDetails, hop: int, device: str | None = None) -> str:
    """One line on the latency of a step of a stream, and whether it keeps up with its sound; empty if none is known.

    Args:
        hop: new rows of the network's input a step; of the front end's frames where there is one.
        device: that the program is for, if it is not the trial's.
    """
    from mcu.firmware import core_of, predict_instructions
    from mcu.tflite.reader import read_tflite
    from orchestrator.queries.export_library import rows_of_a_step
    from orchestrator.worker.firmware_plan import plan_of, target_of

    files = artifacts_of(store)
    model = read_tflite(trial.read("model", files))
    facts = json.loads(trial.read("deployment", files)) if "deployment" in trial.artifacts else {}
    target = target_of(facts, device)
    cycles = None if target is None else cycles_on(store, target)
    if target is None or cycles is None:
        return ""
    plan = plan_of(model, facts, device, rows_of_a_step(facts, hop))[0]
    front, sound = 0.0, facts.get("front_end")
    try:
        network = predict_instructions(model, core_of(target), plan)
    except InputError:
        return ""
    if sound and sound["cost"] and target.name in same_program(trial.row["device"]):
        front = sound["cost"]["instructions"] * hop / FrontEnd(**sound["parameters"]).frames
    found = estimate(network + front, cycles, target.clock_hz)
    line = f"{found.told()} a step, {found.origin}"
    if not sound:
        return line
    if not front:
        return f"{line}, without the front end"
    lasts = 1000 * hop * sound["parameters"]["stride"] / sound["parameters"]["sample_rate"]
    keeps = "keeps up" if found.middle <= lasts else "does not keep up"
    share = found.middle * front / (network + front)
    return f"{line}, {share:.3g} ms of it for the front end; {keeps} with its sound, which lasts {lasts:.3g} ms"


def _bound(store: Store, trial: TrialDetails, device: str, network: float, front_end: float) -> dict[str, str]:
    bound = latency_bounds(store.study(trial.row["study"])).get(device)
    counts = trial.row["runtime"] == RuntimeName.FIRMWARE
    return {} if bound is None else {"latency_bound": against_bound(network, front_end, bound, counts=counts)}


def _estimated(store: Store, trial: TrialDetails, files: Artifacts, name: str) -> tuple[Latency | None, float]:
    """The estimate, and how many milliseconds of it the front end takes."""
    instructions = trial.row["instructions"]
    if not instructions or trial.row["device"] not in same_program(name):
        return None, 0.0
    try:
        device = find_device(name)
    except InputError:
        return None, 0.0
    cycles = cycles_on(store, device)
    if cycles is None:
        return None, 0.0
    before = front_end_instructions(trial.artifacts, files)
    found = estimate(instructions + before, cycles, device.clock_hz)
    if not before:
        return found, 0.0
    share = found.middle * before / (instructions + before)
    return replace(found, origin=f"{found.origin}, {share:.3g} ms of it for the front end"), share


def front_end_instructions(notes: Mapping[str, Any], files: Artifacts) -> int:
    """Of one clip, where the trial with these files has a front end whose cost was measured; else 0."""
    if "deployment" not in notes:
        return 0
    note = Artifact.model_validate(notes["deployment"])
    try:
        entry = json.loads(files.read(note.path, note.sha256, "deployment")).get("front_end") or {}
        return int((entry.get("cost") or {}).get("instructions") or 0)
    except (InputError, ValueError, AttributeError, TypeError):
        return 0
