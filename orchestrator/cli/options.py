"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.storage.address import DEFAULT_STORAGE, STORAGE_VARIABLE

Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar=STORAGE_VARIABLE,
        show_envvar=False,
        help="Database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME; also by MCUSWEEP_STORAGE.",
    ),
]
StudyName = Annotated[str | None, typer.Option("--study", metavar="NAME", help="Study; the latest by default.")]
StudyNames = Annotated[
    list[str] | None,
    typer.Option(
        "--study", metavar="NAME", help="Study, the latest by default; repeat or A,B for several, '*' for all."
    ),
]
FormatName = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table or json.")]
DeviceOption = Annotated[str | None, typer.Option("--device", metavar="NAME", help="Microcontroller.")]
Flash = Annotated[str | None, typer.Option("--flash", metavar="SIZE", help="Flash bound, such as 64KB.")]
Sram = Annotated[str | None, typer.Option("--sram", metavar="SIZE", help="SRAM bound, such as 32KB.")]
Macs = Annotated[str | None, typer.Option("--macs", metavar="COUNT", help="MAC bound, such as 5M.")]
OutputFile = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Output file instead of stdout.")]

STORAGE = DEFAULT_STORAGE

Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Trust what was imported: run the functions its sweep names, begin with its networks."
    ),
]
