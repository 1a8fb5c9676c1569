"""``status``: progress of a study, once or refreshed."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mcu.errors import InputError
from mcu.score import score_of
from orchestrator.cli.options import STORAGE, FormatName, Storage, StudyName

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Group

    from orchestrator.queries.study_status import StudyStatus

    Look = Callable[[], StudyStatus]

Watch = Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until finished; Ctrl-C stops it.")]
EVERY_SECONDS = 2.0
MOST_RUNNING = 16
MOST_REASONS, MOST_FAILED = 5, 10


def status(
    study: StudyName = None, storage: Storage = STORAGE, format_name: FormatName = "table", watch: Watch = False
) -> None:
    """How far a study is, what its workers do, and who runs it."""
    from orchestrator.queries.study_status import read_status
    from orchestrator.storage.store import Store

    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    store = Store(storage)
    name = store.study(study).name

    def look() -> StudyStatus:
        return read_status(store, store.study(name))

    if format_name == "json":
        _repeat(lambda: print(json.dumps(look().as_dict(), indent=None if watch else 2), flush=True), look, watch)
    elif watch and sys.stdout.isatty():
        _watch_on_terminal(look)
    elif watch:
        _repeat(lambda: print(headline(look()), flush=True), look, watch)
    else:
        from rich.console import Console

        Console().print(picture(look()))


def _repeat(show: Callable[[], None], look: Look, watch: bool) -> None:
    show()
    while watch and not finished(look()):
        time.sleep(EVERY_SECONDS)
        show()


def _watch_on_terminal(look: Look) -> None:
    from rich.live import Live

    with Live(picture(look()), auto_refresh=False) as live:
        while not finished(found := look()):
            live.update(picture(found), refresh=True)
            time.sleep(EVERY_SECONDS)
        live.update(picture(found), refresh=True)


def finished(found: StudyStatus) -> bool:
    """Whether the study is finished."""
    return found.done >= found.planned


def headline(found: StudyStatus) -> str:
    """Summary in one line."""
    from mcu.units import format_duration

    by_state = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items())) or "none begun"
    parts = [f"study {found.study}: {found.done} of {found.planned} trials done ({by_state})"]
    parts += [f"{found.per_hour:.0f} trials an hour"] if found.per_hour and found.runner else []
    parts += [f"about {format_duration(found.seconds_left)} left"] if found.seconds_left is not None else []
    return ", ".join(parts)


def picture(found: StudyStatus) -> Group:
    """The table of budgets, running trials, and the driver."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from orchestrator.queries.trained_by import versions_line
    from orchestrator.tables import bar, printable

    table = Table(box=None, pad_edge=False)
    for name in ("budget", "best", "flash", "sram", "macs", "done", "left"):
        table.add_column(name, justify="left" if name == "budget" else "right")
    for budget in found.budgets:
        accuracy = score_of(found.metric).shown(budget.best)
        bars = [bar(budget.use[name], 6) if name in budget.use else "–" for name in ("flash", "sram", "macs")]
        table.add_row(Text(printable(budget.name)), accuracy, *bars, str(budget.done), str(budget.left))
    late = ", no report for more than ten minutes"
    lines = [
        f"  {trial.worker}: trial {trial.number} {trial.method} {trial.budget}, "
        f"epoch {trial.epochs_done:.0f} of {trial.epochs} {trial.phase}{late if trial.silent else ''}"
        for trial in found.running[:MOST_RUNNING]
    ]
    more = len(found.running) - MOST_RUNNING
    lines += [f"  and {more} more"] if more > 0 else []
    lines += _failed(found)
    runner = found.runner
    who = f"run by process {runner['pid']} on {runner['host']} since {runner['since']}" if runner else ""
    mixed = versions_line(found.trained_by)
    last = (headline(found), *([mixed] if mixed else []), who or "no driver is running")
    shown = [printable(line) for line in (*lines, *last)]
    return Group(table, *(Text(line) for line in shown))


def _failed(found: StudyStatus) -> list[str]:
    """The most frequent reasons of failures, with the first trials of each."""
    often = sorted(found.failures.items(), key=lambda item: -len(item[1]))
    lines = [
        f"  failed: {', '.join(map(str, numbers[:MOST_FAILED]))}{' ...' * (len(numbers) > MOST_FAILED)}: {reason}"
        for reason, numbers in often[:MOST_REASONS]
    ]
    return lines + [f"  and {len(often) - MOST_REASONS} more reasons"] * (len(often) > MOST_REASONS)


COMMANDS = (status,)
