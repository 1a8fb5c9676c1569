"""``export``: models as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.asking import Reference, reference_of
from orchestrator.cli.options import STORAGE, DeviceOption, Flash, Macs, Sram, Storage, StudyName

ExportFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write.", show_default=False)]

WithMetadata = Annotated[
    bool, typer.Option("--metadata", help="Also a model that carries labels and input normalisation inside the file.")
]


def export(
    trial: Reference,
    output: ExportFolder,
    metadata: WithMetadata = False,
    study: StudyName = None,
    device: DeviceOption = None,
    flash: Flash = None,
    sram: Sram = None,
    macs: Macs = None,
    storage: Storage = STORAGE,
) -> None:
    """Write a trial's model.tflite, C arrays, firmware project and model card."""
    from orchestrator.queries.export import export_trial
    from orchestrator.queries.trial import load_trial
    from orchestrator.storage.artifacts import artifact_folder
    from orchestrator.storage.store import Store

    store = Store(storage)
    details = load_trial(store, reference_of(store, trial, study, device, flash, sram, macs), study)
    names = export_trial(details, artifact_folder(store), output, metadata)
    print(f"trial {details.row['number']}: {', '.join(names)}", file=sys.stderr)
    print(output)


COMMANDS = (export,)
