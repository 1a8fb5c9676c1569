"""The real driver, database, sampler and stop rule at scale, on the simulated executor's clock.

    python benchmarks/sweeps/simulation.py [--trials 10000] [--workers 1000] [--deaths 0.02]
        [--curves recorded|synthetic] [--plan sobol|adaptive] [--plain] [--output FILE.csv] [--figure FILE.svg]

Reports the utilisation of the workers, the driver's processor time per trial as the database fills (limit: 0.1 s at
10,000 stored trials), and the regret: how far the best accuracy at each budget is from the best there is, as the trials
go on. With synthetic curves the best there is follows from their formula; with recorded ones it is the best accuracy of
the table, which noise may exceed. ``--plain`` runs the peer: random hyperparameters, nothing stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from recorded_curves import RecordedCurves

from mcu.budget import Budget
from orchestrator.executors.base import LossReason
from orchestrator.executors.simulated import Curve, SimulatedExecutor, synthetic_trial
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.run import RunOptions, begin_study, run_study, simulated
from orchestrator.running.watcher import Watcher
from orchestrator.spec import TrialResult, TrialSpec
from orchestrator.storage.store import Store
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.sweep import SweepConfig

HERE = Path(__file__).resolve().parent
LIMIT_SECONDS = 0.1
NAMES = ("learning_rate", "weight_decay", "warmup", "pruning")
HYPERPARAMETERS = {
    "learning_rate": {"low": 0.003, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
    "warmup": {"low": 0.02, "high": 0.4},
    "pruning": {"low": 0.1, "high": 0.5},
}


def sweep_of(trials: int, plan: str, plain: bool) -> SweepConfig:
    """The simulated sweep; a plain one has random hyperparameters and stops nothing."""
    return simulated(
        SweepConfig.model_validate(
            {
                "sweep": {"name": "plain" if plain else "scale", "trials": trials},
                "task": {"name": "digits"},
                "network": {"name": "plain-cnn", "width": 0.5},
                "budgets": {"flash": ["4KB", "48KB"], "macs": ["15k", "300k"], "count": 16, "plan": plan},
                "methods": {"names": ["differentiable"]},
                "training": {"epochs": 4},
                "hyperparameters": HYPERPARAMETERS,
                "sampler": {"name": "random" if plain else "tpe"},
                "stopping": {"enabled": not plain},
            }
        )
    )


@dataclass
class Log(Watcher):
    """Counts what the driver tells, with its processor time."""

    best_there_is: dict[Budget, float]
    executor: SimulatedExecutor
    every: int
    ended: int = 0
    states: Counter[str] = field(default_factory=Counter)
    losses: int = 0
    best: dict[Budget, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    begun: float = field(default_factory=time.process_time)

    def finished(self, number: int, spec: TrialSpec, result: TrialResult, reused_from: str | None) -> None:
        self.ended += 1
        self.states[result.state] += 1
        if result.state == "complete" and result.val_accuracy is not None:
            for budget in self.best_there_is:
                bounds = budget.bounds()
                if all(getattr(result, name) <= bound for name, bound in bounds.items()):
                    self.best[budget] = max(self.best.get(budget, 0.0), result.val_accuracy)
        if self.ended % self.every == 0:
            self.note_row()

    def note_row(self) -> None:
        regret = float(np.mean([most - self.best.get(budget, 0.0) for budget, most in self.best_there_is.items()]))
        self.rows.append(
            {
                "trials": self.ended,
                "virtual_hours": self.executor.now() / 3600,
                "driver_cpu_s": time.process_time() - self.begun,
                "regret": regret,
            }
        )
        print(
            f"{self.ended:6} trials, {self.rows[-1]['driver_cpu_s']:7.1f} s of driver, regret {regret:.4f}", flush=True
        )

    def lost(self, number: int, reason: LossReason, detail: str, retried: bool) -> None:
        self.losses += 1


def best_there_is(budget: Budget, arguments: argparse.Namespace) -> float:
    """The highest accuracy a simulated trial at this budget can have."""
    if arguments.curves == "recorded":
        return float(pd.read_csv(arguments.table / "trials.csv")["val_accuracy"].max())
    spec = TrialSpec(
        task=TaskChoice(name="digits"), network=NetworkChoice(name="plain-cnn"), method="differentiable",
        budget=budget, hyperparameters={"learning_rate": 0.1}, seed=0, training=TrainingChoice(epochs=4),
    )  # fmt: skip
    found = synthetic_trial(spec).result.val_accuracy or 0.0
    return found + 0.01 * float(np.random.default_rng(0).random())


def simulate(arguments: argparse.Namespace, plain: bool) -> tuple[pd.DataFrame, Log]:
    """One sweep from its first trial to its last."""
    sweep = sweep_of(arguments.trials, arguments.plan, plain)
    curve: Curve = RecordedCurves(arguments.table, NAMES) if arguments.curves == "recorded" else synthetic_trial
    executor = SimulatedExecutor(0, arguments.workers, curve, arguments.deaths)
    budgets = list(sweep_of(1, "sobol", plain).planned_budgets())
    most = {budget: best_there_is(budget, arguments) for budget in budgets}
    log = Log(most, executor, max(1, arguments.trials // 50))
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(f"sqlite:///{scratch}/simulation.db", writing=True)
        study = begin_study(store, sweep)
        run_study(store, study, sweep, RunOptions(), log, Interrupts(), lambda *_: executor)
        if store.integrity() != "ok" or sum(store.state_counts(study).values()) != arguments.trials:
            raise SystemExit("the database does not hold every trial exactly once")
        store.close()
    return pd.DataFrame(log.rows), log


def steady_cost(rows: pd.DataFrame, workers: int) -> float:
    """Largest processor time per trial over a tenth of the trials, while trials are asked for as fast as they end."""
    steady = rows[(rows["trials"] > 2 * workers) & (rows["trials"] <= rows["trials"].max() - workers)]
    window = max(1, len(rows) // 10)
    costs = steady["driver_cpu_s"].diff(window) / steady["trials"].diff(window)
    return float(costs.max())


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Driver time per trial and regret against trials."""
    from reports.figures.style import PALETTE, Style, encode, new_figure, styled

    with styled(Style.SCREEN):
        figure = new_figure(7.6, 3.2)
        left, right = figure.subplots(1, 2)
        cost = rows["driver_cpu_s"].diff() / rows["trials"].diff()
        left.plot(rows["trials"], 1000 * cost, color=PALETTE[0])
        left.axhline(1000 * LIMIT_SECONDS, color="0.5", linestyle=":", linewidth=1)
        left.set_ylabel("driver's processor time (ms a trial)")
        left.set_ylim(0, 1200 * LIMIT_SECONDS)
        right.plot(rows["trials"], rows["regret"], color=PALETTE[1])
        right.set_yscale("log")
        right.set_yticks([1, 0.1, 0.01, 0.001, 0.0001], ["1", "0.1", "0.01", "0.001", "0.0001"])
        right.minorticks_off()
        right.set_ylabel("regret (accuracy)")
        for axes in (left, right):
            axes.set_xlabel("trials that ended")
        path.write_bytes(encode(figure, (path.suffix[1:],))[path.suffix[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--deaths", type=float, default=0.02)
    parser.add_argument("--curves", choices=("recorded", "synthetic"), default="recorded")
    parser.add_argument("--plan", choices=("sobol", "adaptive"), default="sobol")
    parser.add_argument("--table", type=Path, default=HERE.parents[1] / "docs/results/sweeps/sampler")
    parser.add_argument("--plain", action="store_true", help="random hyperparameters, nothing stopped")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    rows, log = simulate(arguments, arguments.plain)
    per_trial = steady_cost(rows, arguments.workers)
    print(f"utilisation {log.executor.utilisation:.3f} of {arguments.workers} workers, deaths {log.losses}")
    print(f"driver {rows['driver_cpu_s'].iloc[-1] / log.ended:.3f} s per trial, {per_trial:.3f} s at most,"
          f" {per_trial / LIMIT_SECONDS:.2f} of the limit")  # fmt: skip
    print(f"states {dict(log.states)}; {log.executor.now() / 3600:.2f} virtual hours")
    if arguments.output is not None:
        rows.to_csv(arguments.output, index=False, float_format="%.4g")
    if arguments.figure is not None:
        draw(rows, arguments.figure)
    return 0 if per_trial < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
