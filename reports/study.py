"""Provenance of the trials in a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcu.latency import Latency
from reports.apart import Validation


@dataclass(frozen=True)
class StudyInfo:
    """Provenance of a study.

    Attributes:
        sweep: the sweep as canonical JSON; ``sweep_file`` its text as written, where known.
        machine: facts such as cpu, cores, memory, system.
        commands: shell lines that reproduce the study, in order.
        versions: of the packages when the study began.
        trained_by: one line where other versions of mcusweep trained some of the trials.
        storage: the database's address, without passwords.
        storage_option: whether commands have to name it.
        test_images: size of the test split, for the intervals of accuracies (None: no intervals).
        attempts: rows of (number, worker_host, worker_pid, started_at, ended_at, reason) for the timeline.
        reports: (step, epochs done, validation accuracy) of each report of a trial's last attempt, by trial number.
        importances: relative importance of each hyperparameter, if known.
        latencies: what boards measured, by number of the trial and device.
        inputs: hyperparameters of the sweep that are options of its task, and decide what a network is given.
        latency_bounds: milliseconds that the sweep allows an inference, by device.
        front_end_instructions: of the sound front end of the trial of a number; 0 without one.
        validation: how the trial of a number answered the validation samples; None where that is not known.
        stopping: one line on savings and errors of early stopping, if trials were stopped.
        seeds: by number of a trial that was trained with several seeds, one line on how well it does.
        repeats: numbers of the trials that train another one again: each method has as many trials without them.
    """

    name: str
    sweep: str = "{}"
    sweep_file: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    trained_by: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    storage: str | None = None
    storage_option: bool = True
    test_images: int | None = None
    created_at: str | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()
    reports: Mapping[int, Sequence[tuple[int, float | None, float | None]]] = field(default_factory=dict)
    importances: Mapping[str, float] = field(default_factory=dict)
    stopping: str | None = None
    seeds: Mapping[int, str] = field(default_factory=dict)
    repeats: frozenset[int] = frozenset()
    latencies: Mapping[tuple[int, str], Latency] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    latency_bounds: Mapping[str, float] = field(default_factory=dict)
    front_end_instructions: Callable[[int], int] = lambda number: 0
    validation: Callable[[int], Validation | None] = lambda number: None
