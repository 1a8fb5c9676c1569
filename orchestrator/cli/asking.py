"""``query`` and ``best``: queries of the trial database. Imports neither torch nor Ray."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.cli.options import (
    STORAGE,
    DeviceOption,
    Flash,
    FormatName,
    Macs,
    OutputFile,
    Sram,
    Storage,
    StudyName,
    StudyNames,
)

if TYPE_CHECKING:
    from orchestrator.queries.best import Best
    from orchestrator.storage.store import Store

Where = Annotated[str, typer.Option("--where", metavar="EXPR", help="Filter, such as: method = 'l1' and sram <= 32KB.")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="A,B,...", help="Columns to show.")]
Sort = Annotated[str | None, typer.Option("--sort", metavar="-A,B", help="Columns to sort by; - means descending.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Maximum number of rows.")]
Front = Annotated[
    str | None,
    typer.Option(
        "--front",
        metavar="A,B,...",
        help="Only non-dominated rows in these columns, such as flash,accuracy (accuracies max, others min); "
        "same as front(flash, accuracy) in --where.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="A,B",
        help="One row per budget, method, device, network, task, study, state or seed (or several of them): "
        "count, feasible, mean and best.",
    ),
]
ListStudies = Annotated[bool, typer.Option("--studies", help="List the studies instead of trials.")]
RowFormat = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="table, vertical, csv, json, jsonl, markdown or parquet.")
]
Vertical = Annotated[bool, typer.Option("--vertical", help="Same as --format vertical: one line per column.")]
Reference = Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's number, or best.", show_default=False)]
_WINNERS = ("budget", "number", "method", "val_accuracy", "accuracy", "flash", "sram", "macs", "binding_use")


def query(
    study: StudyNames = None,
    where: Where = "",
    columns: Columns = None,
    sort: Sort = None,
    limit: Limit = None,
    format_name: RowFormat = "table",
    vertical: Vertical = False,
    output: OutputFile = None,
    front: Front = None,
    group: Group = None,
    studies: ListStudies = False,
    storage: Storage = STORAGE,
) -> None:
    """Rows of the trial table, filtered and sorted."""
    from orchestrator.queries.query import Query, list_studies, run_query
    from orchestrator.storage.store import Store
    from orchestrator.tables import Format, find_format, write_rows
    from reports.columns import Shown, names

    style = Format.VERTICAL if vertical else find_format(format_name)
    if studies and any((study, where, columns, sort, limit, front, group)):
        raise InputError("--studies lists the studies; it can be combined with --format, --output and --storage only")
    store = Store(storage)
    if studies:
        listed = list_studies(store)
        write_rows(listed.columns, listed.rows, style, output, nothing="no study yet")
        return
    chosen = study_names(store, study)
    wanted = names_in(columns)
    if not wanted and style is Format.TABLE and not group:
        wanted = ("study",) * (len(chosen) > 1 or "*" in chosen) + names(shown=Shown.TERMINAL)
    asked = Query(chosen, where, wanted, names_in(sort), limit, names_in(front), names_in(group))
    answer = run_query(store, asked)
    write_rows(answer.columns, answer.rows, style, output)


def study_names(store: Store, given: Sequence[str] | None) -> tuple[str, ...]:
    """The studies given by the user: each argument is a name or a comma-separated list; ``*`` means all."""
    found: list[str] = []
    for text in given or ():
        found += [text] if store.find_study(text) is not None else names_in(text)
    return tuple(dict.fromkeys(found))


def names_in(text: str | None) -> tuple[str, ...]:
    """Names of a comma-separated list."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def best(
    study: StudyName = None,
    device: DeviceOption = None,
    flash: Flash = None,
    sram: Sram = None,
    macs: Macs = None,
    format_name: FormatName = "table",
    storage: Storage = STORAGE,
) -> None:
    """The best model for a device or within bounds; without either, the winner of every budget of the study."""
    from orchestrator.storage.store import Store

    store = Store(storage)
    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    if device is None and flash is None and sram is None and macs is None:
        _print_winners(store, study, format_name)
        return
    answer = find(store, study, device, flash, sram, macs)
    about = _about(store, answer)
    if format_name == "json":
        print(json.dumps(answer.as_dict() | about, indent=2))
        return
    from orchestrator.queries.trial import latency_line
    from orchestrator.tables import Format, write_rows
    from reports.columns import Shown, names, used_columns

    own = used_columns(answer.trial["runtime"])
    short = [own.get(name, name) for name in names(shown=Shown.TERMINAL)]
    found = (answer.trial, *answer.runners_up)
    short = _with_network(short, len({row["network"] for row in found}))
    write_rows(short, list(found), Format.TABLE)
    print(answer.reason, file=sys.stderr)
    if "front_end" in about:
        from orchestrator.worker.front_end import front_end_line

        print(front_end_line(about["front_end"]), file=sys.stderr)
    if latency := latency_line(about):
        print(f"latency: {latency}", file=sys.stderr)


def _about(store: Store, answer: Best) -> dict[str, Any]:
    """The chosen trial's front end of sound, and its latency on the device asked for, else on its own, if known."""
    from orchestrator.queries.latency import latency_of
    from orchestrator.queries.trial import load_trial
    from orchestrator.queries.trial_memory import front_end_of
    from orchestrator.storage.artifacts import artifacts_of

    trial = load_trial(store, f"{answer.trial['study']}#{answer.trial['number']}")
    return front_end_of(trial, artifacts_of(store)) | latency_of(store, trial, answer.device)


def find(
    store: Store, study: str | None, device: str | None, flash: str | None, sram: str | None, macs: str | None
) -> Best:
    """The best trial for the user's device or bounds.

    Raises:
        InputError: bounds that do not parse, no bounds, an unknown device, or nothing fits.
    """
    from orchestrator.queries.best import budget_for, find_best

    try:
        budget = budget_for(device, flash=flash, sram=sram, macs=macs)
    except InputError as error:  # begins with the name of the option
        raise InputError(f"--{error}") from None
    return find_best(store, budget, studies=(study,) if study else ())


def _print_winners(store: Store, study: str | None, format_name: str) -> None:
    from orchestrator.queries.best import find_best
    from orchestrator.queries.study_budgets import budgets_in, runtime_of
    from orchestrator.tables import Format, write_rows
    from reports.columns import used_columns

    found = store.study(study)
    own = used_columns(runtime_of(found))
    columns = _with_network([own.get(name, name) for name in _WINNERS], len(found.sweep["network"].get("names") or ()))
    rows: list[dict[str, Any]] = []
    for budget in budgets_in(store, found):
        try:
            answer = find_best(store, budget, studies=(found.name,), runners_up=0)
        except InputError:
            rows.append(dict.fromkeys(columns) | {"budget": budget.label})
            continue
        rows.append({key: answer.trial.get(key) for key in (*columns, "metric")} | _use(budget.label, answer))
    write_rows(columns, rows, Format(format_name))


def _with_network(columns: Sequence[str], networks: int) -> list[str]:
    """The columns, with the network behind the method where there are several."""
    place = columns.index("method") + 1
    return [*columns[:place], *(["network"] if networks > 1 else []), *columns[place:]]


def _use(name: str, answer: Best) -> dict[str, Any]:
    return {"budget": name, "binding_use": max(answer.used.values(), default=None)}


def reference_of(
    store: Store,
    trial: str,
    study: str | None,
    device: str | None,
    flash: str | None,
    sram: str | None,
    macs: str | None,
) -> str:
    """A trial's reference; ``best`` is resolved by a query."""
    if trial != "best":
        if any(value is not None for value in (device, flash, sram, macs)):
            raise InputError(f"TRIAL {trial}: --device, --flash, --sram and --macs are allowed with `best` only")
        return trial
    answer = find(store, study, device, flash, sram, macs)
    return f"{answer.trial['study']}#{answer.trial['number']}"


def output_folder(path: Path) -> Path:
    """An output folder, created if missing.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {path}: cannot make the folder: {error.strerror}") from None
    return path


COMMANDS = (query, best)
