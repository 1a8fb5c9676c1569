"""``report``: the page, figures and tables of a study."""

from __future__ import annotations

import shlex
import sys
import threading
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcu.errors import InputError
from orchestrator.cli.options import STORAGE, Storage, StudyName

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.storage.store import Store, Study
    from reports.figures.style import Style
    from reports.study import StudyInfo

ReportFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of the report.")]
StyleName = Annotated[
    str,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="screen (figures as PNG and SVG) or paper (smaller type, PDF as well).",
    ),
]


Live = Annotated[bool, typer.Option("--live", help="Serve the page on this machine and follow the sweep.")]
Port = Annotated[int, typer.Option("--port", metavar="N", help="Port of --live; 0 for any.")]
Every = Annotated[float, typer.Option("--every", metavar="SECONDS", min=1, help="Least pause of --live.")]


def report(
    study: StudyName = None,
    output: ReportFolder = Path("report"),
    style: StyleName = "screen",
    live: Live = False,
    port: Port = 8765,
    every: Every = 10.0,
    storage: Storage = STORAGE,
) -> None:
    """Write the HTML report, its figures and tables; prints the path of the page, with --live its address."""
    look = _style(style)
    from orchestrator.storage.store import Store

    store = Store(storage)
    found = store.study(study)
    if live:
        _serve(store, found, output, look, port, every)
    else:
        print(write_study(store, found, output, look))


def _serve(store: Store, study: Study, output: Path, style: Style, port: int, every: float) -> None:
    """Serve the report until Ctrl-C, which is how it is meant to end."""
    from orchestrator.cli.live_report import Page, be_modest, follow, serving

    be_modest()
    page, stop = Page(output), threading.Event()
    try:
        write_study(store, study, output, style)
        with serving(page, port) as address:
            print(address, flush=True)
            print("follows the sweep; Ctrl-C ends it", file=sys.stderr)
            write = partial(write_study, store, study, output, style)
            follow(page, lambda: store.state_counts(study), write, every=every, stop=stop)
    except KeyboardInterrupt:
        print(f"stopped; the page stays in {output / 'index.html'}", file=sys.stderr)


def _style(name: str) -> Style:
    from reports.figures.style import Style

    try:
        return Style(name)
    except ValueError:
        raise InputError(f"--style {name!r}: must be one of {', '.join(Style)}") from None


def write_study(store: Store, study: Study, output: Path, style: Style) -> Path:
    """Write the report of a study in its current state; returns the path of the page."""
    from mcu.devices import catalogue
    from orchestrator.queries.latency import core_cycles, cycles_on
    from orchestrator.storage.frames import trials_frame
    from reports.study_page.page import write_report

    frame = trials_frame(store, study)
    named = {str(name) for name in frame["device"].dropna().unique()}
    devices = [
        {
            "name": part.name, "core": part.core, "clock_hz": part.clock_hz,
            "cycles": cycles_on(store, part) if part.name in named else core_cycles(part),
        }
        for part in catalogue()
    ]  # fmt: skip
    return write_report(frame, output, study=study_info(store, study, frame), devices=devices, style=style)


def study_info(store: Store, study: Study, frame: pd.DataFrame) -> StudyInfo:
    """Provenance of the numbers in a report."""
    from orchestrator.queries.as_good import validations
    from orchestrator.queries.importances import importances
    from orchestrator.queries.latency import front_end_instructions, measured_latencies
    from orchestrator.queries.repeats import repeats_of, seeds_lines
    from orchestrator.queries.stop_audit import stop_audit
    from orchestrator.queries.study_budgets import latency_bounds, searched_inputs
    from orchestrator.queries.trained_by import trained_by, versions_line
    from orchestrator.spec import canonical_json
    from orchestrator.storage.artifacts import artifacts_of
    from orchestrator.storage.connection import storage_address
    from orchestrator.storage.epoch_reports import last_reports
    from reports.study import StudyInfo

    audit, judged = stop_audit(store, study), frame.dropna(subset=["val_accuracy"])
    address = storage_address(store.url)
    option = "" if address == STORAGE else f" --storage {shlex.quote(address)}"
    tested = study.task.get("counts", {}).get("test")
    name = shlex.quote(study.name)
    notes = dict(zip(frame["number"], frame["artifacts"], strict=True))
    return StudyInfo(
        name=study.name,
        sweep=canonical_json({**study.sweep, "workers": study.workers}),
        sweep_file=study.sweep_file,
        versions={name: each for name, each in study.versions.items() if isinstance(each, str)},
        trained_by=versions_line(trained_by(store, study)),
        machine=study.machine,
        commands=(f"mcusweep launch sweep.toml{option}", f"mcusweep report --study {name}{option}"),
        storage=address,
        storage_option=bool(option),
        test_images=sum(tested) if tested and study.metric == "accuracy" else None,
        created_at=study.created_at,
        attempts=tuple(store.attempts(study)),
        reports=last_reports(store, study),
        importances=importances(frame),
        stopping=audit.line if audit is not None else None,
        repeats=frozenset(chain.from_iterable(repeats_of(study).values())),
        seeds=seeds_lines(study, dict(zip(judged["number"].tolist(), judged["val_accuracy"].tolist(), strict=True))),
        front_end_instructions=lambda number: front_end_instructions(notes[number], artifacts_of(store)),
        latencies=measured_latencies(artifacts_of(store), notes),
        inputs=searched_inputs(study),
        latency_bounds=latency_bounds(study),
        validation=validations(artifacts_of(store), notes),
    )


COMMANDS = (report,)
