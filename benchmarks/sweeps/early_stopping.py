"""A real sweep with and without early stopping: hypervolume against CPU time, and the audit of false stops.

    python benchmarks/sweeps/early_stopping.py WORK_FOLDER [--trials 40]
        [--output docs/results/sweeps/early_stopping.csv]
        [--figure docs/images/early_stopping.svg] [--tables-only]

Both sweeps ask for the same random hyperparameters in the same order, so that only the stop rule differs; the one that
stops is given twice the trials. CPU time is that of the worker process. Run again, it goes on where it was. The
hypervolume is the mean over the sweep's budgets of the best validation accuracy that fits.

One order of trials is one draw, so the rule is also replayed on the recorded reports of the first sweep in random
orders. A trial that stops is charged the share of its CPU time that was measured for trials stopped at that epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from orchestrator.queries.stop_audit import stop_audit
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.progress import make_watcher
from orchestrator.running.run import RunOptions, begin_study, run_study
from orchestrator.running.stop_rule import AsyncRungs
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig

HERE = Path(__file__).resolve().parent
BUDGETS = [{"flash": "8KB"}, {"flash": "16KB", "macs": "400k"}]
HYPERPARAMETERS = {
    "learning_rate": {"low": 0.003, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
}
COLUMNS = (
    *("stopping", "number", "budget_flash", "budget_macs", "param.learning_rate", "param.weight_decay", "state"),
    *("val_accuracy", "accuracy", "flash", "sram", "macs", "cpu_s", "sweep_cpu_s", "hypervolume"),
)
LIMIT = 0.6  # of the CPU time
TITLES = {False: "every trial to its end", True: "with early stopping"}


def timed_trial(spec: TrialSpec, artifacts: Path, report: Callable[[EpochReport], bool]) -> TrialResult:
    """The sweep's own worker, with its CPU time written beside the trials' files."""
    from orchestrator.worker.trial import run_trial

    begin = time.process_time()
    result = run_trial(spec, artifacts, report)
    artifacts.mkdir(parents=True, exist_ok=True)
    with (artifacts / "cpu.jsonl").open("a") as stream:
        stream.write(json.dumps({"hash": spec.hash(), "cpu_s": time.process_time() - begin}) + "\n")
    return result


def sweep_of(trials: int, stopping: bool) -> SweepConfig:
    """The sweep; one that stops has twice the trials of one that does not."""
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "stopping" if stopping else "whole", "trials": 2 * trials if stopping else trials},
            "task": {"name": "mnist-5k", "options": {"train_limit": 1500}},
            "network": {"name": "plain-cnn", "width": 0.35},
            "budgets": {"list": BUDGETS},
            "methods": {"names": ["differentiable"]},
            "training": {"epochs": 10, "batch_size": 32, "device": "cpu"},
            "hyperparameters": HYPERPARAMETERS,
            "sampler": {"name": "random"},
            "stopping": {"enabled": stopping},
            "workers": {"executor": "local", "count": 1},
        }
    )


def run(folder: Path, trials: int, stopping: bool) -> None:
    """One of the two sweeps, in a database of its own, so that none takes over results of the other."""
    sweep = sweep_of(trials, stopping)
    store = Store(f"sqlite:///{folder}/{sweep.sweep.name}.db", writing=True)
    try:
        options = RunOptions(worker=f"{Path(__file__).stem}:timed_trial")
        run_study(store, begin_study(store, sweep), sweep, options, make_watcher(quiet=False), Interrupts())
    finally:
        store.close()


def table(folder: Path, trials: int, stopping: bool) -> pd.DataFrame:
    """The trials in order with their CPU seconds and the sweep's CPU time and hypervolume after each."""
    sweep = sweep_of(trials, stopping)
    store = Store(f"sqlite:///{folder}/{sweep.sweep.name}.db")
    frame = trials_frame(store, store.study(), trajectories=False)
    store.close()
    lines = (folder / f"{sweep.sweep.name}-artifacts" / "cpu.jsonl").read_text().splitlines()
    spent = pd.DataFrame([json.loads(line) for line in lines]).groupby("hash")["cpu_s"].sum()
    frame = frame[frame["state"].isin(("complete", "stopped", "failed", "infeasible"))].sort_values("number")
    frame["cpu_s"] = frame["spec_hash"].map(spent)
    frame["sweep_cpu_s"] = frame["cpu_s"].cumsum()
    frame["stopping"] = stopping
    frame["hypervolume"] = mean_best(frame)
    return frame[list(COLUMNS)]


def mean_best(frame: pd.DataFrame) -> list[float]:
    """After each trial: mean over the budgets of the best validation accuracy of a complete trial that fits."""
    budgets = list(sweep_of(1, False).planned_budgets())
    best, after = np.zeros(len(budgets)), []
    for row in frame.itertuples():
        for at, budget in enumerate(budgets):
            bounds = budget.bounds()
            if row.state == "complete" and all(getattr(row, name) <= bound for name, bound in bounds.items()):
                best[at] = max(best[at], row.val_accuracy)
        after.append(float(best.mean()))
    return after


@dataclass(frozen=True)
class Replay:
    """The rule on recorded trials in one order: share of the CPU time, and hypervolume less that of all trials."""

    cpu_share: float
    loss: float


def stopped_shares(whole: pd.DataFrame, stopping: pd.DataFrame, epochs: dict[int, float]) -> dict[float, float]:
    """Measured share of a trial's CPU time by the epoch it stopped at, from trials that ran in both sweeps."""
    full = whole.set_index("number")["cpu_s"]
    ended = stopping[(stopping["state"] == "stopped") & stopping["number"].isin(full.index)]
    shares = ended["cpu_s"].to_numpy() / full[ended["number"]].to_numpy()
    frame = pd.DataFrame({"epoch": [epochs[number] for number in ended["number"]], "share": shares})
    medians = frame.groupby("epoch")["share"].median()
    return dict(zip(medians.index.astype(float).tolist(), medians.tolist(), strict=True))


def replay(folder: Path, whole: pd.DataFrame, shares: dict[float, float], orders: int) -> list[Replay]:
    """The rule on the first sweep's reports, trials one after the other, in random orders."""
    store = Store(f"sqlite:///{folder}/whole.db")
    study = store.study()
    specs = {trial.number: trial.spec for trial in store.trials(study)}
    reports: dict[int, list[EpochReport]] = {}
    for row in store.epoch_reports(study):
        reports.setdefault(row["number"], []).append(
            EpochReport(**{name: row[name] for name in EpochReport.model_fields})
        )
    store.close()
    known = sorted(shares.items())
    cpu = {int(number): float(seconds) for number, seconds in zip(whole["number"], whole["cpu_s"], strict=True)}
    found = []
    for order in range(orders):
        rule = AsyncRungs(seed=order)
        spent, kept = 0.0, []
        for number in np.random.default_rng(order).permutation(list(cpu)).tolist():
            stopped = next((r.epochs_done for r in reports[number] if rule.judge(number, specs[number], r)), None)
            share = 1.0 if stopped is None else float(np.interp(stopped, *np.transpose(known)))
            spent += share * cpu[number]
            kept += [number] if stopped is None else []
        left = mean_best(whole[whole["number"].isin(kept)])[-1]
        found.append(Replay(spent / whole["cpu_s"].sum(), mean_best(whole)[-1] - left))
    return found


def draw(tables: dict[bool, pd.DataFrame], path: Path) -> None:
    """Hypervolume against CPU time."""
    from reports.figures.style import PALETTE, Style, encode, new_figure, styled

    with styled(Style.SCREEN):
        figure = new_figure(6.4, 3.4)
        axes = figure.subplots()
        for at, (stopping, frame) in enumerate(tables.items()):
            axes.step(
                frame["sweep_cpu_s"], frame["hypervolume"], where="post", color=PALETTE[at], label=TITLES[stopping]
            )
        whole = tables[False]
        axes.axvline(LIMIT * whole["cpu_s"].sum(), color="0.5", linestyle=":", linewidth=1)
        axes.axhline(whole["hypervolume"].iloc[-1], color="0.5", linestyle=":", linewidth=1)
        axes.set_xlabel("CPU time of the workers (s)")
        axes.set_ylabel("hypervolume (0..1)")
        axes.set_ylim(0.9, 1.0)
        axes.legend(loc="lower right")
        path.write_bytes(encode(figure, (path.suffix[1:],))[path.suffix[1:]])


def report(folder: Path, tables: dict[bool, pd.DataFrame], orders: int) -> bool:
    """Print what was found; whether the limit holds in the sweeps that were run."""
    whole, stopping = tables[False], tables[True]
    total, goal = whole["cpu_s"].sum(), whole["hypervolume"].iloc[-1]
    print(f"whole sweep: {len(whole)} trials, {total:.0f} s, hypervolume {goal:.4f}")
    same = stopping[stopping["number"].isin(whole["number"])]
    print(f"the same {len(same)} trials with stopping: {same['cpu_s'].sum() / total:.2f} of the CPU time, "
          f"hypervolume {same['hypervolume'].iloc[-1]:.4f}")  # fmt: skip
    within = stopping[stopping["sweep_cpu_s"] <= LIMIT * total]
    print(f"at {LIMIT:.0%} of the CPU time: {len(within)} trials, hypervolume {within['hypervolume'].iloc[-1]:.4f}")
    equal = stopping[stopping["sweep_cpu_s"] <= total]
    print(f"at equal CPU time: {len(equal)} trials, hypervolume {equal['hypervolume'].iloc[-1]:.4f}")
    reached = stopping[stopping["hypervolume"] >= goal]
    share = reached["sweep_cpu_s"].iloc[0] / total if len(reached) else float("nan")
    print(f"the whole sweep's hypervolume is reached after {share:.2f} of its CPU time")
    store = Store(f"sqlite:///{folder}/stopping.db")
    study = store.study()
    audit = stop_audit(store, study)
    epochs = {row["number"]: row["epochs_done"] for row in store.epoch_reports(study)}
    store.close()
    print(audit.line if audit is not None else "nothing was stopped")
    shares = stopped_shares(whole, stopping, epochs)
    print("CPU share by epoch of the stop:", {epoch: round(value, 2) for epoch, value in shares.items()})
    replays = replay(folder, whole, shares, orders)
    costs, losses = np.array([r.cpu_share for r in replays]), np.array([r.loss for r in replays])
    low, high = np.quantile(costs, [0.05, 0.95])
    print(f"{orders} orders: CPU share {costs.mean():.2f} ({low:.2f} to {high:.2f} in nine of ten)")
    print(f"hypervolume lost: mean {losses.mean():.4f}, median {np.median(losses):.4f}, at most {losses.max():.4f}")
    return bool(share <= LIMIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where databases and models lie meanwhile")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "docs/results/sweeps/early_stopping.csv")
    parser.add_argument("--figure", type=Path, default=HERE.parents[1] / "docs/images/early_stopping.svg")
    parser.add_argument("--tables-only", action="store_true", help="report on what is there, run nothing")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(HERE))
    for stopping in (False, True):
        if not arguments.tables_only:
            run(folder, arguments.trials, stopping)
    tables = {stopping: table(folder, arguments.trials, stopping) for stopping in (False, True)}
    pd.concat(tables.values()).to_csv(arguments.output, index=False, float_format="%.5g")
    draw(tables, arguments.figure)
    return 0 if report(folder, tables, arguments.orders) else 1


if __name__ == "__main__":
    raise SystemExit(main())
