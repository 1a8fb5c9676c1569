"""Status of a study: progress by budget, running trials, and throughput. Imports no torch, Ray or Optuna."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mcu.budget import RESOURCES, Budget
from mcu.terms import FINAL_STATES, RuntimeName, TrialState
from orchestrator.queries.study_budgets import budgets_of, runtime_of
from orchestrator.queries.trained_by import TrainedBy, trained_by
from orchestrator.storage.epoch_reports import open_attempts
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store, Study
from orchestrator.storage.study_lock import Clock, iso, utc_now
from reports.columns import used_columns
from search_spaces.sections import MethodsSection, SweepSection

_BOUNDS = tuple(f"budget_{name}" for name in RESOURCES)
_READ = ("number", "reason", "device", "state", "val_accuracy", "feasible", "finished_at", "reused_from", *_BOUNDS)
LATELY = timedelta(minutes=30)
"""Throughput is that of the trials that ended so long before the last one did."""


@dataclass(frozen=True)
class BudgetStatus:
    """One budget: trials done and left, and the best feasible model so far with its utilisation of each bound."""

    name: str
    done: int
    left: int
    best: float | None
    use: dict[str, float]


@dataclass(frozen=True)
class RunningTrial:
    """A running trial and its worker; ``silent`` if it has not reported within its lease."""

    number: int
    method: str
    budget: str
    worker: str
    epochs_done: float
    epochs: int
    phase: str
    silent: bool = False


@dataclass(frozen=True)
class StudyStatus:
    """Status of a study.

    Attributes:
        runner: host, pid and start time of the driver that runs it now, if any.
        per_hour: recent throughput in trials per hour; None before two trials have ended.
        metric: metric of the scores.
        seconds_left: estimate at that rate; None if unknown, or if no driver runs the study.
        failures: numbers of the failed trials, by reason.
        trained_by: complete trials by the version of mcusweep that trained them.
    """

    study: str
    created_at: str
    planned: int
    states: dict[str, int]
    runner: dict[str, Any] | None
    budgets: tuple[BudgetStatus, ...]
    running: tuple[RunningTrial, ...]
    per_hour: float | None
    seconds_left: float | None
    metric: str = "accuracy"
    failures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    trained_by: tuple[TrainedBy, ...] = ()

    @property
    def done(self) -> int:
        """Trials with a result."""
        return sum(self.states.get(state, 0) for state in FINAL_STATES)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "study": self.study,
            "planned": self.planned,
            "done": self.done,
            "states": self.states,
            "created_at": self.created_at,
            "running": self.runner,
            "budgets": [vars(budget) for budget in self.budgets],
            "trials": [vars(trial) for trial in self.running],
            "per_hour": self.per_hour,
            "seconds_left": self.seconds_left,
            "failures": self.failures,
            "trained_by": [vars(each) for each in self.trained_by],
        }


def read_status(store: Store, study: Study, clock: Clock = utc_now) -> StudyStatus:
    """Read it from the database."""
    now = clock()
    holder = store.holder(study.name)
    runner = None if holder is None else {"host": holder.host, "pid": holder.pid, "since": holder.since}
    states = store.state_counts(study)
    labels = {(budget, budget.device): budget.label for budget in budgets_of(study)}
    with trial_search(store, None, [study.id], parameters=False) as search:
        trials = search.rows((*_READ, *used_columns(runtime_of(study)).values()))
    attempts = open_attempts(store, study) if runner else []
    done = sum(states.get(state, 0) for state in FINAL_STATES)
    per_hour = _per_hour(
        [row["finished_at"] for row in trials if row["finished_at"] and row["reused_from"] is None],
        now if runner else None,
    )
    left = study.planned_trials - done
    return StudyStatus(
        study.name, study.created_at, study.planned_trials, states, runner,
        _by_budget(study, labels, trials),
        tuple(_running(row, labels, iso(now)) for row in attempts),
        per_hour,
        3600.0 * left / per_hour if per_hour and runner and left > 0 else None,
        study.metric,
        _failures(trials),
        trained_by(store, study),
    )  # fmt: skip


def _failures(trials: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for row in trials:
        if row["state"] == TrialState.FAILED:
            reason = row["reason"] or "no reason is known"
            found[reason] = (*found.get(reason, ()), row["number"])
    return found


Labels = Mapping[tuple[Budget, str | None], str]
"""Name of each budget by its bounds and device: two devices may have equal bounds."""


def _budget_of(row: Mapping[str, Any]) -> Budget:
    return Budget(*(row[f"budget_{name}"] for name in RESOURCES))


def _running(row: Mapping[str, Any], labels: Labels, now: str) -> RunningTrial:
    worker = f"{row['worker_host']}:{row['worker_pid']}" if row["worker_pid"] else "waiting for a worker"
    spec = json.loads(row["spec_json"])
    epochs, own = int(spec["training"]["epochs"]), _budget_of(row)
    budget = labels.get((own, spec.get("device")), own.label)
    return RunningTrial(
        row["number"], row["method"], budget, worker, row["epochs_done"] or 0.0, epochs, row["phase"] or "starting",
        silent=row["worker_pid"] is not None and row["lease"] < now,
    )  # fmt: skip


def _by_budget(study: Study, labels: Labels, trials: list[dict[str, Any]]) -> tuple[BudgetStatus, ...]:
    wanted = _wanted(study, list(labels.values()))
    done: Counter[str] = Counter()
    best: dict[str, dict[str, Any]] = {}
    for row in trials:
        name = labels.get((_budget_of(row), row["device"]))
        if name is None or row["state"] not in FINAL_STATES:
            continue
        done[name] += 1
        if not row["feasible"] or row["state"] != TrialState.COMPLETE or row["val_accuracy"] is None:
            continue
        if name not in best or row["val_accuracy"] > best[name]["val_accuracy"]:
            best[name] = row
    return tuple(
        BudgetStatus(
            name, done[name], max(0, wanted[name] - done[name]),
            best[name]["val_accuracy"] if name in best else None,
            _use(budget, best[name], runtime_of(study)) if name in best else {},
        )
        for (budget, _), name in labels.items()
    )  # fmt: skip


def _use(budget: Budget, row: Mapping[str, Any], runtime: RuntimeName) -> dict[str, float]:
    columns = used_columns(runtime)
    return {name: row[columns[name]] / bound for name, bound in budget.bounds().items()}


def _wanted(study: Study, names: list[str]) -> Counter[str]:
    """Planned trials by budget: networks and budgets take turns in every method, in an adaptive plan only once."""
    methods = MethodsSection.model_validate(study.sweep.get("methods", {}))
    network = study.sweep["network"].get("names")
    standard = SweepSection.model_validate(study.sweep["sweep"]).trials
    cells = len(names) * (len(network) if network else 1)
    wanted: Counter[str] = Counter()
    for method in methods.names:
        trials = methods.trials.get(method, standard)
        known = min(trials, cells) if study.sweep["budgets"].get("plan") == "adaptive" else trials
        wanted.update(names[index % cells % len(names)] for index in range(known))
    return wanted


def _per_hour(ends: list[str], now: datetime | None = None) -> float | None:
    """Recent throughput. While trials run (``now``), a longer silence than between two ends lowers it."""
    moments = sorted(map(datetime.fromisoformat, ends))
    lately = [moment for moment in moments if moments[-1] - moment <= LATELY]
    seconds = (lately[-1] - lately[0]).total_seconds() if lately else 0.0
    if now is not None and lately:
        seconds = max(seconds, (now - lately[0]).total_seconds() * (len(lately) - 1) / len(lately))
    return 3600.0 * (len(lately) - 1) / seconds if seconds > 0 else None
