"""``export``: a trial's model as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mcu.errors import InputError
from orchestrator.cli.asking import Reference, reference_of
from orchestrator.cli.options import STORAGE, DeviceOption, Flash, Macs, Sram, Storage, StudyName

ExportFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write.", show_default=False)]

WithMetadata = Annotated[
    bool, typer.Option("--metadata", help="Also a model file that contains labels and input normalisation.")
]
LibraryForm = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORM",
        help="Also a library for arduino, platformio, zephyr, esp-idf or cmake, in FORM/mcusweep_model.",
    ),
]
LibraryName = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Prefix of the model's functions in the library.")
]
AlsoTrials = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="NAME=TRIAL", help="Another trial in the same library; may be repeated."),
]
Stream = Annotated[
    int | None,
    typer.Option(
        "--stream",
        metavar="HOP",
        min=1,
        help="Firmware for a stream: it is given HOP new rows a step, and gives the result of the whole window.",
    ),
]


def export(
    trial: Reference,
    output: ExportFolder,
    metadata: WithMetadata = False,
    form: LibraryForm = None,
    name: LibraryName = "mcusweep",
    also: AlsoTrials = None,
    stream: Stream = None,
    study: StudyName = None,
    device: DeviceOption = None,
    flash: Flash = None,
    sram: Sram = None,
    macs: Macs = None,
    storage: Storage = STORAGE,
) -> None:
    """Write a trial's model.tflite, C arrays, firmware project and model card; with --format a library for a board."""
    from mcu.firmware.library import library_form
    from orchestrator.queries.best import equals_of
    from orchestrator.queries.export import export_trial
    from orchestrator.queries.export_library import Library
    from orchestrator.queries.latency import latency_of, step_latency
    from orchestrator.queries.trial import latency_line, load_trial
    from orchestrator.storage.artifacts import artifacts_of
    from orchestrator.storage.store import Store

    store = Store(storage)
    details = load_trial(store, reference_of(store, trial, study, device, flash, sram, macs), study)
    library = None
    if form is not None:
        beside = {key: load_trial(store, reference, study) for key, reference in _named(also or [], name).items()}
        library = Library(library_form(form), {name: details} | beside, stream, device)
    elif also:
        raise InputError("--also: several models are one library: say for whom with --format")
    equals = equals_of(store, details)
    if stream is None:
        latency = latency_line(latency_of(store, details))
    else:
        latency = step_latency(store, details, stream, device)
    names, plan = export_trial(details, artifacts_of(store), output, metadata, library, equals, latency, stream, device)
    print(f"trial {details.row['number']}: {', '.join(names)}", file=sys.stderr)
    if plan:
        print(f"firmware: {plan}", file=sys.stderr)
    if stream is not None and latency:
        print(f"latency: {latency}", file=sys.stderr)
    print(output)


def _named(also: list[str], first: str) -> dict[str, str]:
    """References of trials by name."""
    references: dict[str, str] = {}
    for text in also:
        name, mark, reference = text.partition("=")
        if not mark:
            raise InputError(f"--also {text!r}: must be NAME=TRIAL, such as digits=12")
        if name == first or name in references:
            raise InputError(f"--also {text!r}: the name {name!r} is taken: every model of a library needs its own")
        references[name] = reference
    return references


COMMANDS = (export,)
