"""``show``: everything about one trial. Imports neither torch nor Ray."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.cli.asking import Reference, output_folder, reference_of
from orchestrator.cli.options import STORAGE, DeviceOption, Flash, FormatName, Macs, Sram, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.queries.trial import TrialDetails
    from orchestrator.storage.store import Store

FigureFile = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw training, channels and memory (.png, .svg or .pdf)."),
]
ShowFolder = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Write the figure and everything as JSON and CSV there.")
]
FIGURE_KINDS = ("png", "svg", "pdf")


def show(
    trial: Reference,
    study: StudyName = None,
    device: DeviceOption = None,
    flash: Flash = None,
    sram: Sram = None,
    macs: Macs = None,
    figure: FigureFile = None,
    output: ShowFolder = None,
    format_name: FormatName = "table",
    storage: Storage = STORAGE,
) -> None:
    """Everything about one trial: results, scores by class, settings, widths, memory, trajectory, attempts, files."""
    from orchestrator.queries.latency import latency_of
    from orchestrator.queries.trial import details_text, lineage_of, load_trial
    from orchestrator.queries.trial_memory import front_end_of, memory_of
    from orchestrator.queries.trial_scores import scores_of
    from orchestrator.storage.artifacts import artifacts_of
    from orchestrator.storage.store import Store

    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    if figure is not None and figure.suffix[1:] not in FIGURE_KINDS:
        raise InputError(f"--figure {figure}: must end in .{', .'.join(FIGURE_KINDS)}")
    store = Store(storage)
    details = load_trial(store, reference_of(store, trial, study, device, flash, sram, macs), study)
    memory = memory_of(details, artifacts_of(store))
    scores = scores_of(details, artifacts_of(store))
    lineage = lineage_of(store, details)
    front_end = front_end_of(details, artifacts_of(store))
    found = {"memory": memory, "scores": scores, "lineage": [dict(step.trial) for step in lineage]}
    latency = latency_of(store, details)
    everything = details.as_dict() | latency | found | front_end
    if figure is not None:
        _write_figures(store, details, memory, {figure.suffix[1:]: figure})
    if output is not None:
        _write_folder(store, details, everything, output_folder(output))
    if format_name == "json":
        print(json.dumps(everything, indent=2))
    else:
        print(details_text(details, memory, latency | front_end, scores, lineage), end="")


def _write_figures(store: Store, details: TrialDetails, memory: list[dict[str, Any]], files: dict[str, Path]) -> None:
    from orchestrator.storage.epoch_reports import last_reports
    from orchestrator.tables import write_output
    from reports.figures.style import Style, encode, styled
    from reports.figures.trial import trial_figure

    study, number = store.study(details.row["study"]), details.row["number"]
    alive = [(row["layer"], row["live"]) for row in memory]
    with styled(Style.SCREEN):
        drawn = encode(trial_figure(details.as_dict(), alive, last_reports(store, study, number)), tuple(files))
    for kind, path in files.items():
        write_output(path, drawn[kind])


def _write_folder(store: Store, details: TrialDetails, everything: dict[str, Any], folder: Path) -> None:
    from orchestrator.tables import Format, encode_rows, write_output

    _write_figures(store, details, everything["memory"], {kind: folder / f"trial.{kind}" for kind in FIGURE_KINDS})
    write_output(folder / "trial.json", (json.dumps(everything, indent=2) + "\n").encode())
    tables = {
        "trajectory": details.trajectory,
        "memory": everything["memory"],
        "widths": [
            {"layer": name, "dense": details.dense_widths.get(name), "kept": kept}
            for name, kept in details.widths.items()
        ],
    }
    for name, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        full = [{key: row.get(key) for key in columns} for row in rows]
        write_output(folder / f"{name}.csv", encode_rows(columns, full, Format.CSV))
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}", file=sys.stderr)


COMMANDS = (show,)
