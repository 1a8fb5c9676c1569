"""``measure --port``: the self test of an exported library on a real board, over its serial line."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mcu.errors import InputError

if TYPE_CHECKING:
    from mcu.board import Board, BoardModel, BoardRun, MeasuredLatency, Session
    from mcu.devices import Device
    from orchestrator.storage.artifacts import TrialFiles
    from orchestrator.storage.store import Store

AUTOMATIC_SECONDS = 1.0
FASTER = 1.02
"""Times its catalogue's clock that a device may run at."""

FEWEST_CYCLES = 0.5
"""Of the fewest cycles an instruction that public measurements of a core gave: fewer are those of another processor."""

FEWEST_RUNS, MOST_RUNS = 5, 100
"""Without ``--runs``: as many as take a second, within these."""


@dataclass(frozen=True)
class BoardOptions:
    """Options of ``measure`` that matter for a board."""

    port: str
    baud: int
    runs: int | None
    timeout: float
    device: str | None
    study: str | None
    storage: str


@dataclass(frozen=True)
class _Wanted:
    """The model that the board has to run: its identity, and its name in messages."""

    identity: str
    label: str


@dataclass(frozen=True)
class _Measured:
    """What a board did with a model, and the trials that the model is from."""

    model: BoardModel
    run: BoardRun
    trials: list[TrialFiles]


def measure_board(model: str | None, options: BoardOptions) -> list[dict[str, Any]]:
    """Measure a board's models, or the one that is asked for, and store what belongs to a trial.

    Args:
        model: a .tflite file, or the reference of a trial; None for what the board runs.

    Returns:
        facts of each model.

    Raises:
        InputError: the port, the board or its model is not as it should be; nothing is stored then.
    """
    from mcu.board import Session, open_port
    from mcu.devices import find_device

    device = None if options.device is None else find_device(options.device)
    store = _database(options.storage)
    wanted = None if model is None else _wanted(model, store, options.study)
    with open_port(options.port, options.baud) as line:
        session = Session(line, options.port, baud=options.baud, patience=options.timeout)
        board = session.identify()
        chosen = board.models if wanted is None else (_chosen(board, wanted, options.port),)
        ran = [(one, _run(session, board, one, options.runs)) for one in chosen]
    measured = [_Measured(one, run, [] if store is None else _trials_of(store, one)) for one, run in ran]
    names = [_device_of(one, device) for one in measured]
    for one, name in zip(measured, names, strict=True):  # all of them, before anything is stored
        _check(one, name, board, store, options.port)
    return [_facts(one, name, board, store, options) for one, name in zip(measured, names, strict=True)]


def _database(storage: str) -> Store | None:
    """The database; None if there is none where the default one would be."""
    from orchestrator.storage.address import DEFAULT_STORAGE
    from orchestrator.storage.connection import database_file, parse_storage
    from orchestrator.storage.store import Store

    file = database_file(parse_storage(storage))
    if storage == DEFAULT_STORAGE and file is not None and not file.exists():
        return None
    return Store(storage)


def _wanted(model: str, store: Store | None, study: str | None) -> _Wanted:
    from mcu.firmware.library import IDENTITY_DIGITS, identity_of
    from orchestrator.queries.trial import load_trial

    path = Path(model)
    if path.suffix == ".tflite" or path.exists():
        try:
            return _Wanted(identity_of(path.read_bytes()), str(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if store is None:
        raise InputError(f"{model}: is no .tflite file, and there is no database with trials; give --storage")
    details = load_trial(store, model, study)
    if "model" not in details.artifacts:
        raise InputError(f"trial {details.row['number']} of {details.row['study']} has no model")
    label = f"trial {details.row['number']} of {details.row['study']}"
    return _Wanted(details.artifacts["model"]["sha256"][:IDENTITY_DIGITS], label)


def _chosen(board: Board, wanted: _Wanted, port: str) -> BoardModel:
    for model in board.models:
        if model.identity == wanted.identity:
            return model
    there = " and ".join(f"{model.name} ({model.identity})" for model in board.models)
    raise InputError(
        f"--port {port}: the board runs {there}, expected was {wanted.label} ({wanted.identity}): export that with "
        "--format and flash it, or measure without naming a model"
    )


def _run(session: Session, board: Board, model: BoardModel, runs: int | None) -> BoardRun:
    """The timed inferences; a board that computes something else is refused."""
    if runs is None:
        seconds = max(session.measure(board, model, 1).ticks[0], 1) / board.ticks_per_second
        runs = min(max(int(AUTOMATIC_SECONDS / seconds), FEWEST_RUNS), MOST_RUNS)
    found = session.measure(board, model, runs)
    if any(found.wrong):
        vectors = ", ".join(str(at) for at, wrong in enumerate(found.wrong) if wrong)
        raise InputError(
            f"the board computes other outputs: {sum(found.wrong)} codes of {model.name} differ in test vectors "
            f"{vectors}; nothing is stored: look at the compiler, its flags and the stack"
        )
    return found


def _device_of(measured: _Measured, device: Device | None) -> str | None:
    """The microcontroller: the one that was named, else that of the model's trials, if they agree."""
    known = {trial.device for trial in measured.trials if trial.device is not None}
    return device.name if device is not None else known.pop() if len(known) == 1 else None


def _check(measured: _Measured, name: str | None, board: Board, store: Store | None, port: str) -> None:
    """Refuse a board that cannot be that device, or whose outputs are not those of the model's trial."""
    from mcu.devices import find_device

    if name is not None:
        _check_clock(find_device(name), board, port)
    if store is not None and measured.trials:
        _check_outputs(store, measured.trials[0], measured.run)
    if name is not None and store is not None and measured.trials:
        seconds = median(measured.run.ticks) / board.ticks_per_second
        _check_cycles(store, measured.trials[0], find_device(name), board.core_hz, seconds)


def _facts(
    one: _Measured, name: str | None, board: Board, store: Store | None, options: BoardOptions
) -> dict[str, Any]:
    """What was measured and where it is stored now."""
    times = [1e6 * ticks / board.ticks_per_second for ticks in one.run.ticks]
    facts: dict[str, Any] = {
        "model": one.model.name, "identity": one.model.identity, "port": options.port, "runs": len(times),
        "latency_ms": median(times) / 1000, "latency_least_ms": min(times) / 1000,
        "latency_most_ms": max(times) / 1000, "bit_exact": True,
    }  # fmt: skip
    if name is None:
        reason = "it is not known which microcontroller this is: give --device NAME"
        return facts | {"stored": [], "not_stored": reason}
    facts["device"] = name
    if store is None or not one.trials:
        where = "there is no database" if store is None else f"no trial of {options.storage} has this model"
        return facts | {"stored": [], "not_stored": where}
    from mcu.board import MeasuredLatency
    from orchestrator.queries.latency import predicted_latency
    from orchestrator.storage.study_lock import iso, utc_now

    at = iso(utc_now())
    measured = MeasuredLatency(name, options.port, at, len(times), median(times), min(times), max(times), board.core_hz)
    estimated = predicted_latency(store, one.trials[0], name)
    _keep(options.storage, one.trials, measured)
    if estimated is not None:
        facts |= {"estimated_ms": estimated.middle, "estimate": f"{estimated.text()}, {estimated.origin}"}
    return facts | {"stored": [trial.label for trial in one.trials]}


def _check_clock(device: Device, board: Board, port: str) -> None:
    """Refuse a processor that is faster than the device can be: it is another one."""
    if board.core_hz is not None and board.core_hz > FASTER * device.clock_hz:
        raise InputError(
            f"--port {port}: the board's processor runs at {board.core_hz / 1e6:g} MHz, {device.name} at most at "
            f"{device.clock_hz / 1e6:g}: --device must name the microcontroller that is there"
        )


def _check_cycles(store: Store, trial: TrialFiles, device: Device, core_hz: int | None, seconds: float) -> None:
    """Refuse a time in which the device cannot execute the instructions: its processor is another one, or faster."""
    from orchestrator.queries.latency import core_cycles, predicted_instructions

    instructions, core = predicted_instructions(store, trial, device), core_cycles(device)
    if instructions is None or core is None:
        return
    clock = core_hz or device.clock_hz
    found = seconds * clock / instructions
    if found < FEWEST_CYCLES * core.low:
        raise InputError(
            f"{1000 * seconds:.3g} ms are {found:.2g} cycles an instruction at the {clock / 1e6:g} MHz of "
            f"{device.name}, whose core takes {core.low:.2g} at the least: nothing is stored; --device must name the "
            "microcontroller that is there"
        )


def _trials_of(store: Store, model: BoardModel) -> list[TrialFiles]:
    """The trials whose model the board runs."""
    from orchestrator.storage.artifacts import trials_with

    return [
        trial
        for trial in trials_with(store, model.identity)
        if "model" in trial.notes and trial.notes["model"].sha256.startswith(model.identity)
    ]


def _keep(storage: str, trials: list[TrialFiles], measured: MeasuredLatency) -> None:
    from orchestrator.queries.latency import keep_latency
    from orchestrator.storage.store import Store

    writing = Store(storage, writing=True)
    try:
        if writing.upgraded:
            print(writing.upgraded, file=sys.stderr)
        for trial in trials:
            keep_latency(writing, trial, measured)
    finally:
        writing.close()


def _check_outputs(store: Store, trial: TrialFiles, run: BoardRun) -> None:
    """Compare with the outputs in the trial's files, which the board does not know."""
    import zlib

    import numpy as np

    from orchestrator.storage.artifacts import artifacts_of

    note = trial.notes.get("deployment")
    if note is None:
        return
    facts = json.loads(artifacts_of(store).read(note.path, note.sha256, trial.label))
    outputs = np.array(facts["self_test"]["outputs"], dtype=np.int8)
    if tuple(zlib.crc32(output.tobytes()) for output in outputs) != run.checks:
        raise InputError(
            f"the board's outputs are not those of {trial.label}: nothing is stored; export the library again"
        )


def print_board(facts: list[dict[str, Any]], format_name: str) -> None:
    """The facts on stdout, and on stderr what was not stored and why."""
    if format_name == "json":
        print(json.dumps(facts, indent=2))
        return
    for number, one in enumerate(facts):
        if number:
            print()
        for name, value in one.items():
            shown = ", ".join(value) or "nowhere" if isinstance(value, list) else value
            print(f"{name:20} {f'{shown:.4g}' if isinstance(shown, float) else shown}")
    for one in facts:
        if "not_stored" in one:
            print(f"{one['model']}: not stored: {one['not_stored']}", file=sys.stderr)
