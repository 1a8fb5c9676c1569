"""``init`` and ``doctor``: a first sweep file, and a check of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcu.errors import InputError
from orchestrator.cli.options import FormatName

InitTask = Annotated[str, typer.Option("--task", metavar="NAME", help="Task of the sweep.")]
InitDevice = Annotated[str, typer.Option("--device", metavar="NAME", help="Target microcontroller.")]
InitFile = Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write.")]


def init(
    task: InitTask = "mnist-5k", device: InitDevice = "stm32f446re", output: InitFile = Path("sweep.toml")
) -> None:
    """Write a commented sweep file to start from."""
    from orchestrator.tables import write_output
    from search_spaces.template import template

    text = template(task, device)
    if output.exists():
        raise InputError(f"--output {output}: exists already; give another name")
    write_output(output, text.encode())
    print(output)


def doctor(format_name: FormatName = "table") -> None:
    """What works on this machine: Python packages, Ray, TFLM, the Arm compiler, QEMU, data."""
    from orchestrator.cli.doctor import check_machine
    from orchestrator.tables import find_format, write_rows

    rows = [finding.as_row() for finding in check_machine()]
    write_rows(("what", "works", "detail"), rows, find_format(format_name))


COMMANDS = (init, doctor)
