"""``launch``, ``resume`` and ``confirm``: running sweeps."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcu.errors import InputError
from orchestrator.cli.options import STORAGE, Storage, StudyName, Trust
from orchestrator.failures import RunFailed
from orchestrator.storage.address import STORAGE_VARIABLE
from orchestrator.storage.connection import storage_address
from search_spaces.terms import ExecutorName

if TYPE_CHECKING:
    from orchestrator.running.run import RunOptions
    from orchestrator.storage.store import Store, Study
    from search_spaces.sweep import SweepConfig

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="The sweep file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the sweep file; may be repeated."),
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Number of parallel trials.")]
Address = Annotated[str | None, typer.Option("--address", metavar="RAY", help="Ray cluster to join.")]
Executor = Annotated[str | None, typer.Option("--executor", metavar="NAME", help=f"One of {', '.join(ExecutorName)}.")]
Extend = Annotated[
    bool,
    typer.Option("--extend", help="Extend the study by trials, seeds, budgets, networks or methods new in the file."),
]
Preflight = Annotated[
    bool, typer.Option("--preflight/--no-preflight", help="Train a few steps first and print a time estimate.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Retry failed trials.")]
RetryWhere = Annotated[
    str, typer.Option("--where", metavar="EXPR", help="Which of the failed trials, such as: reason like '%memory%'.")
]
TakeOver = Annotated[
    bool,
    typer.Option("--take-over", help="Take over the study from its driver, which stops at its next write."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="DIR", exists=True, file_okay=False,
        help="Where the sweep's own modules are now, if not where the study began.",
    ),
]  # fmt: skip
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="PATH", exists=True, help="Where the task's data are now, if not where the study began.",
    ),
]  # fmt: skip
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, max=1000, help="Trials of each budget.")]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Other seeds for each of them.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def launch(
    sweep_file: SweepFile,
    overrides: Overrides = None,
    storage: Storage = STORAGE,
    workers: Workers = None,
    address: Address = None,
    executor: Executor = None,
    extend: Extend = False,
    preflight: Preflight = True,
    quiet: Quiet = False,
) -> int:
    """Run a sweep; the same sweep again continues its study."""
    from orchestrator.launch import begun
    from orchestrator.running.run import RunOptions
    from search_spaces.sweep import load_sweep

    options = RunOptions(workers=workers, executor=executor, address=address)
    asked, text = load_sweep(sweep_file, overrides or []), sweep_file.read_text(encoding="utf-8")
    with begun(asked, text, storage, options, extend=extend) as (store, study, sweep):
        if preflight and not quiet and not study.simulated and not store.state_counts(study):
            _say_how_long(sweep, options)
        return _run(store, study, sweep, options, quiet)


def _say_how_long(sweep: SweepConfig, options: RunOptions) -> None:
    """Train a few steps of every network and tell what follows from it."""
    from mcu.units import format_duration
    from orchestrator.executors.attempt import limit_threads
    from orchestrator.planning.estimate import estimate_sweep
    from orchestrator.running.run import local_workers

    limit_threads(sweep.workers.cpus_per_trial)
    found = estimate_sweep(sweep)
    for line in found.out_of_reach:
        print(f"preflight: {line}", file=sys.stderr)
    for name, seconds in found.trial_seconds.items():
        step = 1000 * found.step_seconds[name]
        print(f"preflight: {name}: {step:.0f} ms a step, about {format_duration(seconds)} a trial", file=sys.stderr)
    workers = local_workers(sweep.workers, options)
    whole = format_duration(found.sweep_seconds(workers))
    print(f"preflight: about {whole} for {sum(found.trials.values())} trials, {workers} at a time", file=sys.stderr)


def resume(
    study: StudyName = None,
    storage: Storage = STORAGE,
    workers: Workers = None,
    address: Address = None,
    executor: Executor = None,
    retry_failed: RetryFailed = False,
    where: RetryWhere = "",
    take_over: TakeOver = False,
    trust: Trust = False,
    folder: Folder = None,
    data: Data = None,
    quiet: Quiet = False,
) -> int:
    """Run what is left of a study that was interrupted, and with --retry-failed what failed."""
    from orchestrator.running.run import stored_sweep

    options = _options(workers, executor, address, take_over, folder, data)
    if where and not retry_failed:
        raise InputError("--where needs --retry-failed: it selects the failed trials to retry")
    with _opened(storage, study) as (store, found):
        _may_run(store, found, options, trust)
        if retry_failed:
            from orchestrator.studies.retry import plan_failed_again

            again = plan_failed_again(store, found, where, take_over=take_over)
            print(f"{again} failed trials are retried", file=sys.stderr)
        return _run(store, found, stored_sweep(found), options, quiet)


def confirm(
    study: StudyName = None,
    top: Top = 1,
    seeds: Seeds = 2,
    storage: Storage = STORAGE,
    workers: Workers = None,
    address: Address = None,
    executor: Executor = None,
    take_over: TakeOver = False,
    trust: Trust = False,
    folder: Folder = None,
    data: Data = None,
    quiet: Quiet = False,
) -> int:
    """Train the best trials of a finished study again with other seeds: how much of a result is chance."""
    from orchestrator.running.run import stored_sweep
    from orchestrator.studies.confirm import plan_best_again

    options = _options(workers, executor, address, take_over, folder, data)
    with _opened(storage, study) as (store, found):
        _may_run(store, found, options, trust)
        found, added = plan_best_again(store, found, top, seeds, take_over=take_over)
        print(f"{added} trials are added to study {found.name}", file=sys.stderr)
        return _run(store, found, stored_sweep(found), options, quiet)


def _options(
    workers: int | None,
    executor: str | None,
    address: str | None,
    take_over: bool,
    folder: Path | None,
    data: Path | None,
) -> RunOptions:
    from orchestrator.running.run import RunOptions

    def here(path: Path | None) -> str | None:
        return None if path is None else str(path.resolve())

    return RunOptions(
        workers=workers, executor=executor, address=address, take_over=take_over, folder=here(folder), data=here(data)
    )


def _may_run(store: Store, study: Study, options: RunOptions, trusted: bool) -> None:
    """The sweep's own modules are found, and its study is trusted.

    Raises:
        InputError: one of them is not so.
    """
    from orchestrator.running.run import moves, stored_sweep
    from orchestrator.studies.trust import require_trust, trust
    from search_spaces.factories import moved

    moved(moves(stored_sweep(study), options))
    if trusted:
        trust(store, study, take_over=options.take_over)
    require_trust(store, study)


@contextmanager
def _opened(storage: str, name: str | None) -> Iterator[tuple[Store, Study]]:
    """A study to go on with; a missing database or study is refused before anything is written."""
    from orchestrator.storage.store import Store

    Store(storage).study(name)
    store = Store(storage, writing=True)
    try:
        yield store, store.study(name)
    finally:
        store.close()


def _run(store: Store, study: Study, sweep: SweepConfig, options: RunOptions, quiet: bool) -> int:
    from orchestrator.queries.trained_by import trained_by, versions_line
    from orchestrator.running.interrupts import Interrupts
    from orchestrator.running.progress import make_watcher
    from orchestrator.running.run import run_study
    from orchestrator.running.supervision import supervised

    interrupts = Interrupts()
    again = resume_command(store, study, options)
    try:
        report = run_study(store, study, sweep, options, make_watcher(quiet), interrupts)
    except RunFailed as error:
        if error.passing and supervised():
            raise  # the supervisor goes on by itself
        if not error.resumable:
            raise
        raise RunFailed(f"{error}\nresults so far are kept; continue with: {again}") from error
    if not report.finished:
        return _interrupted(again)
    mixed = versions_line(trained_by(store, store.study(study.name)))
    if mixed:
        print(mixed, file=sys.stderr)
    failed = f", {report.failed} failed; retry them with: {again} --retry-failed" if report.failed else ""
    print(f"study {study.name}: {sum(report.counts.values())} trials done{failed}", file=sys.stderr)
    return 1 if report.failed else 0


def _interrupted(again: str) -> int:
    print(f"interrupted; results so far are kept; continue with: {again}", file=sys.stderr)
    return 130


def resume_command(store: Store, study: Study, options: RunOptions) -> str:
    """The exact command to continue a study."""
    parts = ["mcusweep", "resume", "--study", study.name]
    address = storage_address(store.url)
    if address != STORAGE and os.environ.get(STORAGE_VARIABLE) is None:
        parts += ["--storage", address]
    for name in ("workers", "executor", "address", "folder", "data"):
        value = getattr(options, name)
        if value is not None:
            parts += [f"--{name}", str(value)]
    command = shlex.join(parts)
    return f"{command} (with {STORAGE_VARIABLE} or PGPASSWORD as now)" if store.url.password else command


COMMANDS = (launch, resume, confirm)
