"""Run of a sweep with a database: start or continue its study, choose the executor, run the driver."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from mcu.terms import TrialState
from orchestrator.executors.attempt import DEFAULT_WORKER, WorkerSetting
from orchestrator.executors.base import Executor
from orchestrator.planning.budget_plan import budget_plan_for
from orchestrator.planning.extension import bare, grown
from orchestrator.planning.inputs import combinations, input_space, with_inputs
from orchestrator.planning.plan import Plan, least_of
from orchestrator.planning.sweep_difference import differences
from orchestrator.provenance import machine, package_versions, usable_cpus, with_driver
from orchestrator.running.disk_guard import DiskGuard
from orchestrator.running.driver import Driver
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.parts import DriverParts, Retries
from orchestrator.running.stop_rule import stop_rule_for
from orchestrator.running.supervision import reentered, tell_progress
from orchestrator.running.warm_start import sampler_for
from orchestrator.running.watcher import Watcher
from orchestrator.spec import IMPORTED, NETWORK, TrialResult
from orchestrator.storage.artifacts import Artifacts, artifact_folder, claim_artifacts
from orchestrator.storage.connection import database_file, database_label
from orchestrator.storage.optuna_mirror import OptunaMirror
from orchestrator.storage.store import Store, Study
from orchestrator.storage.study_lock import iso, utc_now
from orchestrator.worker.shared_task import lent_tasks
from search_spaces.choices import TaskChoice
from search_spaces.sections import WorkersSection
from search_spaces.sweep import SweepConfig
from search_spaces.terms import ExecutorName

REJOIN_SECONDS = 300.0
"""How long a driver that lost its cluster waits for the head to answer again."""

STORE_TRIES = 8
"""How often an object store is tried while trials run: for about a minute."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not affect results.

    Attributes:
        workers, executor: override the sweep file.
        address: of an existing Ray cluster.
        worker: ``module:function`` that runs a trial.
        take_over: take over the study from a driver that may still hold it.
        folder: where the sweep's folder is now, if it is not where the study began.
        data: where the task's data are now, if they are not where the study began.

    Raises:
        InputError: for an unknown executor.
    """

    workers: int | None = None
    executor: str | None = None
    address: str | None = None
    worker: str = DEFAULT_WORKER
    take_over: bool = False
    folder: str | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        if self.executor is not None and self.executor not in list(ExecutorName):
            raise InputError(f"executor {self.executor!r}: must be one of {', '.join(ExecutorName)}")


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run: trials by state, and whether all planned trials have a result."""

    study: str
    counts: dict[str, int]
    finished: bool

    @property
    def failed(self) -> int:
        """Trials without a usable result."""
        return self.counts.get(TrialState.FAILED, 0)


MakeExecutor = Callable[[WorkerSetting, WorkersSection, RunOptions, SweepConfig], Executor]


def simulated(sweep: SweepConfig) -> SweepConfig:
    """The sweep renamed for the simulated executor, so that the study cannot be mistaken for a real one."""
    section = sweep.workers.model_copy(update={"executor": ExecutorName.SIMULATED})
    name = sweep.sweep.model_copy(update={"name": f"{sweep.sweep.name}-simulated"})
    return sweep.model_copy(update={"workers": section, "sweep": name})


def begin_study(
    store: Store,
    sweep: SweepConfig,
    sweep_file: str | None = None,
    task: Mapping[str, Any] | None = None,
    *,
    extend: bool = False,
) -> Study:
    """The sweep's study: a new one, or the existing one if it was made from the same sweep.

    Args:
        sweep_file: text of the sweep file, stored with a new study.
        task: facts about the data, stored as well.
        extend: let the sweep add trials, seeds, budgets, networks and methods to the existing study.

    Raises:
        InputError: if a study of that name was made from another sweep; the message shows the difference.
    """
    plan = Plan(sweep)
    dump = json.loads(sweep.canonical())
    workers = dump.pop("workers")
    there = store.find_study(sweep.sweep.name)
    if there is not None:
        different = differences(bare(there.sweep), bare(dump))
        if different and extend:
            return _extended(store, there, sweep, sweep_file, task or {})
        if different:
            shown = "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")
            raise InputError(
                f"study {there.name!r} in {database_label(store.url)} was made from another sweep: {shown}; "
                "give this one another [sweep] name or another --storage, or --extend the study"
                + _advice_for(there.name, different)
            )
        return there
    planned = len(plan.trials)
    fresh = Study(
        0, sweep.sweep.name, dump, sweep_file, workers, planned, package_versions(), machine(), "", dict(task or {})
    )
    return store.create_study(fresh)


def _advice_for(study: str, different: list[str]) -> str:
    """What to do where only the folder of the sweep's modules, or of its data, differs."""
    keys = {line.partition(":")[0] for line in different}
    if all(key.endswith(".base") for key in keys):
        return f"; if its folder was only moved: mcusweep resume --study {study} --folder DIR"
    if keys <= {"task.data", "task.path"}:
        return f"; if its data were only moved: mcusweep resume --study {study} --data PATH"
    return ""


def _extended(store: Store, there: Study, sweep: SweepConfig, sweep_file: str | None, task: Mapping[str, Any]) -> Study:
    longer = grown(stored_sweep(there), sweep)
    planned = len(Plan(longer).trials)
    behind = [trial.number for trial in store.trials(there) if trial.number >= there.planned_trials]
    if behind:
        raise InputError(
            f"--extend: study {there.name!r} has {len(behind)} trials merged in from elsewhere behind its plan; "
            "extend before merging, or give the sweep another name"
        )
    require_unchanged(store, there)
    dump = json.loads(longer.canonical())
    del dump["workers"]
    with store.lock(there.name):
        return store.extend_study(there, dump, sweep_file, planned, {**there.task, **task})


def require_unchanged(store: Store, study: Study) -> None:
    """Refuse to plan more trials of a study whose data, or code of the user's, are others now; see ``Plan``.

    Raises:
        InputError: naming a trial and what changed.
    """
    if not study.simulated:
        stored = {trial.number: trial.spec for trial in store.trials(study) if trial.number < study.planned_trials}
        Plan(stored_sweep(study)).require_unchanged(stored)


def stored_sweep(study: Study) -> SweepConfig:
    """The configuration a study was made from."""
    return SweepConfig.model_validate({**study.sweep, "workers": study.workers})


def run_study(
    store: Store,
    study: Study,
    sweep: SweepConfig,
    options: RunOptions,
    watcher: Watcher,
    interrupts: Interrupts,
    make_executor: MakeExecutor | None = None,
) -> RunSummary:
    """Run the unfinished trials of a study. ``interrupts`` handles signals during the run.

    Raises:
        InputError: another driver runs the study; a method is unknown.
        StoreError, ExecutorError: the database or the executor failed; call `run_study` again to continue.
    """
    plan = Plan(sweep, least_of(study.task))
    url = None if study.simulated else sweep.workers.artifacts
    files = claim_artifacts(store, url, tries=STORE_TRIES)
    _check_writable(files.folder)
    paths = import_paths(sweep)
    setting = WorkerSetting(options.worker, str(files.folder), paths, threads(sweep), moves(sweep, options))
    store.patience.tell = watcher.note
    if store.upgraded:
        watcher.note(store.upgraded)
    with store.lock(study.name, take_over=options.take_over) as lock:
        versions = with_driver(study.versions, package_versions(), iso(utc_now()))
        if versions != study.versions:
            store.note_versions(study, versions)
        mirror = OptunaMirror(store.url, study.name, plan.methods, store.patience)
        try:
            make = make_executor or partial(executor_for, tell=watcher.note)
            executor = make(setting, sweep.workers, options, sweep)
            with executor, interrupts:
                parts = DriverParts(
                    store=store,
                    study=study,
                    plan=plan,
                    mirror=mirror,
                    sampler=sampler_for(store, study, sweep, plan.spaces),
                    executor=executor,
                    stop_rule=stop_rule_for(sweep),
                    budgets=budget_plan_for(plan),
                    watcher=watcher,
                    interrupts=interrupts,
                    retries=retries(sweep.workers),
                    on_result=tell_progress,
                    left_network=left_network(files, study),
                    keep=lambda result: files.send(note.path for note in result.artifacts.values()),
                    disk=disk_guard(store, sweep),
                )
                finished = Driver(parts, lock).run()
        finally:
            mirror.close()
    return RunSummary(study.name, store.state_counts(study), finished)


def retries(section: WorkersSection) -> Retries:
    """The retry policy of a sweep."""
    limit = section.time_limit
    return Retries(section.max_attempts, longest_run=math.inf if limit is None else limit / 1e6)


def left_network(files: Artifacts, study: Study) -> Callable[[TrialResult], bool]:
    """Whether a trial's trained network is trusted, exists and is undamaged; simulated trials have none."""

    def check(result: TrialResult) -> bool:
        noted = result.artifacts.get(NETWORK)
        if noted is None:
            return study.simulated
        if noted.path.startswith(f"{IMPORTED}/"):
            return False
        try:
            files.read(noted.path, noted.sha256, "trained network")
        except InputError:
            return False
        return True

    return check


def threads(sweep: SweepConfig) -> int:
    """Torch threads of one trial: equal to its CPUs."""
    return sweep.workers.cpus_per_trial


def _check_writable(folder: Path) -> None:
    """Refuse to begin where no trial could write its files."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}, where the trials' files go: {error.strerror}") from None


def disk_guard(store: Store, sweep: SweepConfig) -> DiskGuard:
    """The guard for the disks of the database and the trials' files."""
    file = database_file(store.url)
    folders = [artifact_folder(store)] + ([file.absolute().parent] if file is not None else [])
    return DiskGuard(tuple(folders), 0 if sweep.workers.executor is ExecutorName.SIMULATED else sweep.workers.min_free)


def import_paths(sweep: SweepConfig) -> tuple[str, ...]:
    """Folders of the user's modules."""
    bases = (sweep.task.base, sweep.network.base, sweep.training.base)
    return tuple(dict.fromkeys(str(Path(base)) for base in bases if base))


def moves(sweep: SweepConfig, options: RunOptions) -> dict[str, str]:
    """Where the folders and data of a sweep are now, by where its study says they are.

    Raises:
        InputError: the sweep's task has no data, or two places for them.
    """
    found = {} if options.folder is None else dict.fromkeys(import_paths(sweep), options.folder)
    if options.data is not None:
        named = [path for path in (sweep.task.data, sweep.task.path) if path]
        if len(named) != 1:
            why = "names both task.data and task.path" if named else "reads neither task.data nor task.path"
            raise InputError(f"--data {options.data}: task {sweep.task.name!r} {why}: give no --data")
        found[named[0]] = options.data
    return found


def executor_for(
    setting: WorkerSetting,
    section: WorkersSection,
    options: RunOptions,
    sweep: SweepConfig,
    tell: Callable[[str], None] = lambda _: None,
) -> Executor:
    """The executor that the options, or else the sweep file, name; ``tell`` is given lines for a person.

    Raises:
        InputError: for a simulation of a real study, or the reverse.
        ExecutorError: if it cannot start.
    """
    name = options.executor or section.executor
    if (name == ExecutorName.SIMULATED) != (section.executor is ExecutorName.SIMULATED):
        raise InputError(f"--executor {name}: this study was begun with {section.executor}; they cannot be mixed")
    wanted = options.workers or (section.count if isinstance(section.count, int) else None)
    local_count = local_workers(section, options)
    if name == ExecutorName.LOCAL:
        from orchestrator.executors.local import LocalExecutor

        return LocalExecutor(setting, local_count)
    if name == ExecutorName.SIMULATED:
        from orchestrator.executors.simulated import SimulatedExecutor

        return SimulatedExecutor(seed=sweep.sweep.seed, workers=wanted or 1000)
    from orchestrator.executors.ray import RayExecutor

    return RayExecutor(
        setting,
        wanted if options.address else local_count,
        cpus_per_trial=section.cpus_per_trial,
        address=options.address,
        use_gpu=sweep.training.device != "cpu",
        gpus_per_trial=section.gpus_per_trial,
        lent=lent_tasks(plan_tasks(sweep)) if setting.worker == DEFAULT_WORKER else (),
        ship=section.ship,
        patience=REJOIN_SECONDS if reentered() else 0.0,
        tell=tell,
    )


def plan_tasks(sweep: SweepConfig) -> list[TaskChoice]:
    """The task with every combination of its searched options."""
    return [with_inputs(sweep.task, inputs) for inputs in combinations(input_space(sweep))]


def local_workers(section: WorkersSection, options: RunOptions) -> int:
    """Parallel trials on this machine: as requested, or as many as fit."""
    wanted = options.workers or (section.count if isinstance(section.count, int) else None)
    return wanted or max(1, usable_cpus() // section.cpus_per_trial)
