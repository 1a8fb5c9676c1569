"""``report``, ``export`` and ``measure``: what comes out of a sweep."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.commands.asking import Reference, reference_of
from orchestrator.commands.options import STORAGE, DeviceOption, Flash, FormatName, Macs, Sram, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.store import Store, Study
    from reports.study import StudyInfo

ReportFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of the report.")]
ExportFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write.", show_default=False)]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="An int8 model.", show_default=False)]
WithFirmware = Annotated[bool, typer.Option("--firmware", help="Also build our C program and run it in QEMU.")]


def report(study: StudyName = None, output: ReportFolder = Path("report"), storage: Storage = STORAGE) -> None:
    """Write the HTML report, its figures and tables; prints the path of the page."""
    from orchestrator.store import Store
    from orchestrator.trials_table import trials_frame

    store = Store(storage)
    found = store.study(study)
    frame = trials_frame(store, found)
    if frame["state"].isin(("planned", "running")).all():
        raise InputError(f"study {found.name!r} has no finished trial yet; nothing to report")
    from mcu.devices import catalogue
    from reports.page import write_report

    devices = [{"name": part.name, "core": part.core, "clock_hz": part.clock_hz} for part in catalogue()]
    print(write_report(frame, output, study=study_info(store, found), devices=devices))


def study_info(store: Store, study: Study) -> StudyInfo:
    """What a report says of where its numbers come from."""
    from orchestrator.spec import canonical_json
    from reports.study import StudyInfo

    address = store.url.render_as_string(hide_password=True)
    option = "" if address == STORAGE else f" --storage {shlex.quote(address)}"
    tested = study.task.get("counts", {}).get("test")
    return StudyInfo(
        name=study.name,
        sweep=canonical_json({**study.sweep, "workers": study.workers}),
        sweep_file=study.sweep_file,
        versions=study.versions,
        machine=study.machine,
        commands=(f"mcusweep launch sweep.toml{option}", f"mcusweep report{option}"),
        storage=address,
        test_images=sum(tested) if tested else None,
        created_at=study.created_at,
        attempts=tuple(store.attempts(study)),
    )


def export(
    trial: Reference,
    output: ExportFolder,
    study: StudyName = None,
    device: DeviceOption = None,
    flash: Flash = None,
    sram: Sram = None,
    macs: Macs = None,
    storage: Storage = STORAGE,
) -> None:
    """Write a trial's model.tflite, C arrays, firmware project and model card."""
    from orchestrator.database import artifact_root
    from orchestrator.export import export_trial
    from orchestrator.store import Store
    from orchestrator.trial_details import load_trial

    store = Store(storage)
    details = load_trial(store, reference_of(store, trial, study, device, flash, sram, macs), study)
    names = export_trial(details, artifact_root(store.url), output)
    print(f"trial {details.row['number']}: {', '.join(names)}", file=sys.stderr)
    print(output)


def measure(
    model: ModelFile, device: DeviceOption = None, firmware: WithFirmware = False, format_name: FormatName = "table"
) -> None:
    """Measure an int8 .tflite file: flash, TFLM arena, MACs; with a device, whether it fits."""
    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    try:
        data = model.read_bytes()
    except OSError as error:
        raise InputError(f"{model}: cannot be read: {error.strerror}") from None
    answer = measured_facts(data, device)
    if firmware:
        answer |= firmware_facts(data, str(model), device)
    if format_name == "json":
        print(json.dumps(answer, indent=2))
        return
    from orchestrator.row_formats import human

    for name, value in answer.items():
        print(f"{name:20} {human(name, value)}")


def measured_facts(data: bytes, device: str | None) -> dict[str, Any]:
    """What a model uses, and with a device how that stands against what it leaves for a model."""
    from mcu.budget import Resources
    from mcu.devices import find_device
    from mcu.measure import measure_model

    room = find_device(device) if device is not None else None
    measured = measure_model(data)
    answer: dict[str, Any] = {
        "flash": measured.flash,
        "sram": measured.sram,
        "sram_activations": measured.sram_activations,
        "macs": measured.macs,
        "measured": measured.measured,
    }
    if room is not None:
        budget = room.budget()
        used = Resources(measured.flash, measured.sram, measured.macs)
        answer |= {"device": room.name, "budget_flash": budget.flash, "budget_sram": budget.sram}
        answer |= {"feasible": budget.admits(used), "binding_use": budget.binding_use(used)}
    return answer


def firmware_facts(data: bytes, source: str, device: str | None) -> dict[str, Any]:
    """Flash, RAM, instructions and exactness of the exported C program, built and run for the device's core."""
    if device is None:
        raise InputError("--firmware needs --device NAME: the core to build for")
    import tempfile

    from mcu.devices import find_device
    from mcu.firmware.build import build
    from mcu.firmware.cores import core_of
    from mcu.firmware.emulator import run_in_qemu
    from mcu.firmware.project import write_project
    from mcu.tflite_reader import read_tflite

    room = find_device(device)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "firmware"
        write_project(read_tflite(data, source), project)
        built = build(project, room)
        ran = run_in_qemu(project, core_of(room))
    return {
        "flash_firmware": built.flash,
        "sram_firmware": built.ram,
        "instructions": ran.instructions,
        "bit_exact": ran.bit_exact,
    }


COMMANDS = (report, export, measure)
