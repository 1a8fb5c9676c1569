"""What the orchestrator costs: how busy workers are kept, trials per second against Ray Tune, time per stored trial.

    python benchmarks/sweeps/orchestration_cost.py busy tune stored --folder FOLDER [--output FILE.md --figure FILE.svg]

`busy`    trials of ten seconds on two Ray workers: their busy time over workers times wall time (goal: at least 0.95).
`tune`    trials that do nothing, ours on Ray with the default sampler and a database against Ray Tune + OptunaSearch
          (TPE), both on two CPUs in the same run (goal: at least 10 times as many a second). Needs `ray[tune]`, which
          the product does not: pip install "ray[tune]".
`stored`  the driver's processor time for a trial while the database fills to 10,000 (goal: below 0.1 s).

Each part leaves a JSON file in the folder and is not run again; the table and the figure are made from those.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

from mcu.terms import TrialState
from orchestrator.executors.attempt import ReportEpoch, WorkerSetting
from orchestrator.executors.base import Event, Executor, Finished
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.run import RunOptions, begin_study, run_study
from orchestrator.running.watcher import Watcher
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig

HERE = Path(__file__).resolve().parent
SECONDS, WORKERS = 10.0, 2
WINDOW = 200
Trial = Callable[[TrialSpec, Path, ReportEpoch], TrialResult]


def sweep_of(trials: int) -> SweepConfig:
    """Trials over six budgets, default sampler (TPE), a learning rate to search."""
    sizes = [16, 24, 32, 48, 64, 96]
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "cost", "trials": trials},
            "task": {"name": "digits"},
            "network": {"name": "ds-cnn"},
            "budgets": {"list": [{"flash": f"{size}KB", "sram": "16KB"} for size in sizes]},
            "methods": {"names": ["l1"]},
            "hyperparameters": {"learning_rate": {"low": 0.01, "high": 0.3, "log": True}},
        }
    )


def answer(spec: TrialSpec, seconds: float) -> TrialResult:
    """A result that depends on the hyperparameters, so that the sampler has something to learn."""
    quality = 0.9 - abs(float(spec.hyperparameters["learning_rate"]) - 0.1) + 1e-9 * (spec.seed % 1000)
    flash = int(0.95 * (spec.budget.flash or 0))
    return TrialResult(
        state=TrialState.COMPLETE, accuracy=quality, val_accuracy=quality, float_accuracy=quality,
        flash=flash, sram=9_000, macs=10 * flash, violation=0.0, feasible=True,
        binding_use=0.95, measured=False, duration_s=seconds,
    )  # fmt: skip


def ten_seconds(spec: TrialSpec, artifacts: Path, report: ReportEpoch) -> TrialResult:
    """Sleeps, so that other work on the machine does not count; reports every second, as epochs do."""
    for step in range(int(SECONDS)):
        time.sleep(1.0)
        report(EpochReport(step=step, epochs_done=step + 1.0, val_accuracy=0.5))
    return answer(spec, SECONDS)


def nothing(spec: TrialSpec, artifacts: Path, report: ReportEpoch) -> TrialResult:
    """Does nothing."""
    return answer(spec, 0.0)


class Immediate(Executor):
    """Ends every attempt at once in the driver's own process: what remains is the driver."""

    def __init__(self) -> None:
        self._ended: deque[Event] = deque()

    @property
    def capacity(self) -> int:
        return WORKERS

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        self._ended.append(Finished(attempt, answer(spec, 1.0)))

    def poll(self, timeout: float) -> list[Event]:
        events, self._ended = list(self._ended), deque()
        return events

    def withdraw(self, attempt: str) -> None:
        pass

    def stop(self, attempt: str) -> None:
        pass

    def shutdown(self) -> None:
        pass


class Stopwatch(Watcher):
    """Times of the first start and of every end: wall and processor seconds of the driver."""

    def __init__(self) -> None:
        self.first = 0.0
        self.ends: list[tuple[float, float]] = []

    def started(self, number: int, spec: TrialSpec) -> None:
        self.first = self.first or time.monotonic()

    def finished(self, number: int, spec: TrialSpec, result: TrialResult, reused_from: str | None) -> None:
        self.ends.append((time.monotonic(), time.process_time()))


def run(folder: Path, name: str, trials: int, executor: Callable[[], Executor]) -> Stopwatch:
    """Run a study in a new database, with everything that a sweep has."""
    database = folder / f"{name}.db"
    for path in folder.glob(f"{name}.db*"):
        path.unlink()
    store, watch, sweep = Store(f"sqlite:///{database}", writing=True), Stopwatch(), sweep_of(trials)
    study = begin_study(store, sweep)
    report = run_study(store, study, sweep, RunOptions(), watch, Interrupts(), lambda *_: executor())
    store.close()
    if report.counts != {"complete": trials}:
        raise SystemExit(f"{name}: {report.counts}")
    return watch


def on_ray(folder: Path, work: Trial) -> Executor:
    from orchestrator.executors.ray import RayExecutor

    setting = WorkerSetting(f"orchestration_cost:{work.__name__}", str(folder / "artifacts"), (str(HERE),))
    return RayExecutor(setting, WORKERS)


def measure_busy(folder: Path) -> dict[str, Any]:
    """Busy over possible time to the last end: from the first trial, and from when each worker has had one."""
    trials = 30
    begun = time.monotonic()
    watch = run(folder, "busy", trials, lambda: on_ray(folder, ten_seconds))
    last = watch.ends[-1][0]
    warm = sum(at for at, _ in watch.ends[:WORKERS]) / WORKERS
    return {
        "trials": trials,
        "start": watch.first - begun,
        "whole": trials * SECONDS / (WORKERS * (last - watch.first)),
        "busy": (trials - WORKERS) * SECONDS / (WORKERS * (last - warm)),
    }


def measure_tune(folder: Path) -> dict[str, Any]:
    """Our trials a second and Ray Tune's, one after the other; starting Ray is left out of both."""
    ours = 300
    watch = run(folder, "no_op", ours, lambda: on_ray(folder, nothing))
    rate = (ours - WORKERS) / (watch.ends[-1][0] - watch.ends[WORKERS - 1][0])
    theirs, count = tune_rate(folder), 30
    return {"ours": rate, "our_trials": ours, "tune": theirs, "tune_trials": count, "ratio": rate / theirs}


def tune_rate(folder: Path, count: int = 30) -> float:
    """Trials a second of Ray Tune with OptunaSearch."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    search = OptunaSearch(metric="accuracy", mode="max", seed=0)

    def objective(config: dict[str, float]) -> None:
        tune.report({"accuracy": 0.9 - abs(config["learning_rate"] - 0.1)})

    tuner = tune.Tuner(
        objective,
        param_space={"learning_rate": tune.loguniform(0.01, 0.3)},
        tune_config=tune.TuneConfig(search_alg=search, num_samples=count, max_concurrent_trials=WORKERS),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    begun = time.monotonic()
    tuner.fit()
    rate = count / (time.monotonic() - begun)
    ray.shutdown()
    return rate


def measure_stored(folder: Path, trials: int = 10_000) -> dict[str, Any]:
    """Processor seconds of the driver for a trial, in windows of trials."""
    watch = run(folder, "stored", trials + WINDOW, Immediate)
    times = [processor for _, processor in watch.ends]
    points = range(WINDOW, len(times), WINDOW)
    return {"stored": list(points), "seconds": [(times[at] - times[at - WINDOW]) / WINDOW for at in points]}


PARTS = {"busy": measure_busy, "tune": measure_tune, "stored": measure_stored}


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| what | found | goal |", "| --- | --- | --- |"]
    if "busy" in found:
        part = found["busy"]
        what = f"busy time / (2 workers x wall), {part['trials']} trials of {SECONDS:g} s"
        lines.append(f"| {what}, once each worker has had a trial | {part['busy']:.3f} | at least 0.95 |")
        begins = f"Ray took {part['start']:.0f} s before"
        lines.append(
            f"| the same from the first trial on, worker processes starting | {part['whole']:.3f} ({begins}) | |"
        )
    if "tune" in found:
        part = found["tune"]
        what = "trials that do nothing, per second: ours / Ray Tune + OptunaSearch"
        lines.append(f"| {what} | {part['ours']:.1f} / {part['tune']:.2f} = {part['ratio']:.0f} | at least 10 |")
    if "stored" in found:
        part = found["stored"]
        for stored, seconds in zip(part["stored"], part["seconds"], strict=True):
            if stored in (200, 1000, 3000, 10_000):
                goal = "below 100 ms" if stored == 10_000 else ""
                lines.append(
                    f"| driver's processor time for a trial, {stored:,} stored | {1000 * seconds:.0f} ms | {goal} |"
                )
    return "\n".join(lines)


def draw(part: dict[str, Any], path: Path) -> None:
    """The driver's time for a trial against the trials there are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(part["stored"], [1000 * seconds for seconds in part["seconds"]], color="#2f6f9f")
    axes.axhline(100, color="0.5", linestyle="--", linewidth=1)
    axes.annotate("goal", (part["stored"][0], 98), va="top", color="0.4")
    axes.set(xlabel="trials stored", ylabel="driver's processor time for a trial (ms)", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.parts:
        kept = given.folder / f"{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(PARTS[name](given.folder.resolve())))
    found = {name: json.loads(path.read_text()) for name in PARTS if (path := given.folder / f"{name}.json").exists()}
    print(table(found))
    if given.output:
        command = "python benchmarks/sweeps/orchestration_cost.py busy tune stored --folder FOLDER"
        given.output.write_text(
            f"# What orchestration costs\n\n`{command}`\n\n{table(found)}\n\n{fill(NOTE, 118)}\n"
            + (
                f"\n![time for a trial against stored trials](../../images/{given.figure.name})\n"
                if given.figure
                else ""
            )
        )
    if given.figure and "stored" in found:
        draw(found["stored"], given.figure)


NOTE = (
    "Ten-second trials sleep, and the driver's time is processor time, so that other work on the machine counts "
    "little; trials per second are wall time, both measured one after the other on the same machine, which had other "
    "work to do. Ours write every trial to the database (ours and Optuna's tables) before the next begins."
)

if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
