"""Launch of a sweep from its file: validation, start or continuation of its study, run; for command line and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.failures import RunFailed
from orchestrator.latency_bounds import with_latency
from orchestrator.planning.plan import Plan
from orchestrator.planning.preflight import check_sweep
from orchestrator.queries.open_study import OpenStudy, open_study
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.progress import make_watcher
from orchestrator.running.run import RunOptions, begin_study, run_study, simulated, stored_sweep
from orchestrator.storage.address import DEFAULT_STORAGE
from orchestrator.storage.store import Store, Study
from search_spaces.sweep import SweepConfig, check_table, load_sweep
from search_spaces.terms import ExecutorName


def launch(
    sweep: str | Path | Mapping[str, Any],
    *,
    storage: str = DEFAULT_STORAGE,
    workers: int | None = None,
    executor: str | None = None,
    address: str | None = None,
    extend: bool = False,
    quiet: bool = True,
) -> OpenStudy:
    """Run a sweep in this process; the same sweep again continues its study.

    Ctrl-C once lets the running trials finish, twice ends them; in both cases results are kept. Unlike the command
    line, there is no supervisor that restarts a killed process: call it again instead.

    Args:
        sweep: the sweep file, or its sections as a dictionary, whose relative paths are relative to the current
            folder.
        storage: database, ``sqlite:///FILE`` or ``postgresql://...``.
        workers, executor: override the sweep's settings.
        address: of a Ray cluster to join.
        extend: let the sweep add trials, seeds, budgets, networks and methods to the existing study.
        quiet: only warnings on stderr, no progress.

    Returns:
        The study, opened for reading.

    Raises:
        InputError: one line on the invalid input, before any work is done.
        RunFailed: the run could not continue, or none of its trials has a result.
        KeyboardInterrupt: it was interrupted.
    """
    options = RunOptions(workers=workers, executor=executor, address=address)
    if isinstance(sweep, Mapping):
        checked, text = check_table(sweep, "sweep"), None
    else:
        checked, text = load_sweep(Path(sweep)), Path(sweep).read_text(encoding="utf-8")
    with begun(checked, text, storage, options, extend=extend) as (store, study, config):
        report = run_study(store, study, config, options, make_watcher(quiet), Interrupts())
    if not report.finished:
        raise KeyboardInterrupt
    if report.failed == sum(report.counts.values()):
        raise RunFailed(f"study {study.name}: all {report.failed} trials failed; `mcusweep status` says why")
    return open_study(study.name, storage)


@contextmanager
def begun(
    sweep: SweepConfig, text: str | None, storage: str, options: RunOptions, *, extend: bool
) -> Iterator[tuple[Store, Study, SweepConfig]]:
    """Validate a sweep and open its new or existing study for writing; returns it with the sweep as stored.

    Raises:
        InputError: data that is missing, a network that cannot be traced, an infeasible budget, another sweep's study.
    """
    Plan(sweep).check()
    if (options.executor or sweep.workers.executor) == ExecutorName.SIMULATED:
        sweep, facts = simulated(sweep), {}
    else:
        sweep = with_latency(sweep, storage)
        facts = check_sweep(sweep)
    store = Store(storage, writing=True)
    try:
        study = begin_study(store, sweep, text, facts, extend=extend)
        yield store, study, stored_sweep(study).model_copy(update={"workers": sweep.workers})
    finally:
        store.close()
