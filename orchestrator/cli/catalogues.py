"""``devices``, ``tasks``, ``networks`` and ``methods``: names for the sweep file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.cli.options import FormatName

if TYPE_CHECKING:
    from mcu.budget import Resources
    from mcu.devices import Device
    from mcu.int8.model import Int8Model

TaskName = Annotated[str | None, typer.Option("--describe", metavar="TASK", help="Load this task and describe it.")]
TaskData = Annotated[str | None, typer.Option("--data", metavar="PATH", help="Its task.data or task.path.")]
DownloadTask = Annotated[
    str | None, typer.Option("--download", metavar="TASK", help="Download or resume this task's public data.")
]
FitsModel = Annotated[
    Path | None, typer.Option("--fits", metavar="MODEL.tflite", help="Only the boards that can hold this model.")
]


def devices(fits: FitsModel = None, format_name: FormatName = "table") -> None:
    """The microcontrollers, with what they leave for a model; those that can hold one, tightest first."""
    from mcu.devices import catalogue

    if fits is not None:
        _write(("name", "core", "clock_mhz", "budget_flash", "budget_sram", "binding_use"), _holders(fits), format_name)
        return
    rows = []
    for device in catalogue():
        room = device.budget()
        rows.append(
            {
                "name": device.name,
                "vendor": device.vendor,
                "core": device.core,
                "clock_mhz": device.clock_hz / 1e6,
                "flash": device.flash,
                "sram": device.sram,
                "budget_flash": room.flash,
                "budget_sram": room.sram,
                "source": device.source,
            }
        )
    _write(("name", "vendor", "core", "clock_mhz", "flash", "sram", "budget_flash", "budget_sram"), rows, format_name)


def _holders(model: Path) -> list[dict[str, Any]]:
    """Boards that can hold a model: the one it fills most comes first, it is the cheapest that will do.

    By file and arena; where TensorFlow Lite Micro does not run, by flash and RAM of our C program, predicted.
    """
    from mcu.budget import Resources
    from mcu.devices import catalogue
    from mcu.measure import measure_file
    from mcu.tflite.reader import read_tflite

    measured = measure_file(model)
    used, read = Resources(measured.flash, measured.sram, measured.macs), read_tflite(model.read_bytes(), str(model))
    taken = {device: _of_program(read, device) if device.firmware_only else used for device in catalogue()}
    rows = [
        {
            "name": device.name,
            "core": device.core,
            "clock_mhz": device.clock_hz / 1e6,
            "budget_flash": device.budget().flash,
            "budget_sram": device.budget().sram,
            "binding_use": device.budget().binding_use(own),
        }
        for device, own in taken.items()
        if own is not None and device.budget().admits(own)
    ]
    return sorted(rows, key=lambda row: -row["binding_use"])


def _of_program(model: Int8Model, device: Device) -> Resources | None:
    """Predicted resources of the C program on a device; None if it cannot be built for this model."""
    from mcu.budget import Resources
    from mcu.firmware import choose_plan, core_of

    try:
        taken = choose_plan(model, core_of(device).name, device.budget()).chosen
    except InputError:
        return None
    return Resources(taken.flash, taken.ram, model.macs())


def tasks(
    format_name: FormatName = "table", describe: TaskName = None, data: TaskData = None, download: DownloadTask = None
) -> None:
    """The tasks: data sets and your own arrays; with --describe one of them, loaded, as JSON; --download gets one."""
    from search_spaces.tasks import describe_task, load_task, task_digest, task_names

    if download is not None:
        _download(download)
        return

    if describe is not None:
        from search_spaces.choices import TaskChoice

        at_path = describe == "arrays"
        choice = TaskChoice(name=describe, base=".", data=None if at_path else data, path=data if at_path else None)
        about = describe_task(describe, load_task(choice)) | {"digest": task_digest(choice)}
        print(json.dumps(about, indent=2))
        return
    _write(("name", "modality", "summary", "source"), [describe_task(name) for name in task_names()], format_name)


def _download(task: str) -> None:
    """Fetch with a progress bar on the standard error; the folder goes to the standard output."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from search_spaces.tasks.download import download

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown: dict[str, Any] = {}

        def progress(name: str, here: int, total: int | None) -> None:
            if name not in shown:
                shown[name] = bar.add_task(name)
            bar.update(shown[name], completed=here, total=total)

        folder = download(task, progress)
    print(folder)


def networks(format_name: FormatName = "table") -> None:
    """The networks, each with a width multiplier."""
    from search_spaces.networks import describe_network, network_names

    _write(("name", "summary", "citation"), [describe_network(name) for name in network_names()], format_name)


def methods(format_name: FormatName = "table") -> None:
    """The compression methods and their hyperparameters."""
    from pruning.catalogue import method_entries

    rows = [
        {
            "name": entry.name,
            "summary": entry.summary,
            "hyperparameters": "any" if entry.hyperparameters is None else ", ".join(entry.hyperparameters),
        }
        for entry in method_entries()
    ]
    _write(("name", "summary", "hyperparameters"), rows, format_name)


def _write(columns: Sequence[str], rows: list[dict[str, Any]], format_name: str) -> None:
    """A table of the columns, or JSON of everything."""
    if format_name == "json":
        print(json.dumps(rows, indent=2))
        return
    if format_name != "table":
        raise InputError(f"--format {format_name!r}: must be table or json")
    from orchestrator.tables import Format, write_rows

    write_rows(columns, [{name: row[name] for name in columns} for row in rows], Format.TABLE)


COMMANDS = (devices, tasks, networks, methods)
