"""Time and peak memory of whole `mcusweep` processes over made-up studies, as ratios of stated limits.

    python benchmarks/query_speed.py [1000 10000 100000] [--repeat 3] [--output FILE.csv]

A ratio below 1 keeps the limit. Times are the best of the repeats (a busy machine only adds), memory the largest.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

COMMANDS: dict[str, list[str]] = {
    "query": [
        *("query", "--where", "method = 'differentiable' and sram <= 32KB"),
        *("--sort", "-val_accuracy", "--limit", "3", "--format", "json"),
    ],
    "query front": [
        *("query", "--where", "feasible and param.learning_rate < 0.2 and front(flash, accuracy)"),
        *("--sort", "flash", "--format", "csv"),
    ],
    "query groups": ["query", "--group", "budget,method", "--format", "markdown"],
    "best": ["best", "--device", "stm32f446re", "--format", "json"],
    "report": ["report", "--output", "REPORT"],
}
# seconds by number of trials (the next larger one holds), and megabytes
SECONDS = {
    "query": {10_000: 1.0, 100_000: 4.0},
    "query front": {10_000: 1.0, 100_000: 4.0},
    "query groups": {10_000: 1.0, 100_000: 4.0},
    "best": {10_000: 1.0, 100_000: 4.0},
    "report": {10_000: 30.0, 100_000: 300.0},
}
MEGABYTES = {"report": 4000.0}
QUERY_MEGABYTES = 250.0


@dataclass(frozen=True)
class Measurement:
    """One command over one study, against its limits (seconds, megabytes)."""

    command: str
    trials: int
    seconds: float
    seconds_limit: float
    megabytes: float
    megabytes_limit: float


def run_once(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one process."""
    begin = time.perf_counter()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *arguments], stdout=out, stderr=err, cwd=HERE.parent
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed: {(folder / 'err').read_text()[-500:]}")
    return seconds, usage.ru_maxrss / 1024


def measure(trials: int, repeat: int, folder: Path) -> list[Measurement]:
    """Every command over a made-up study of so many trials."""
    database = folder / f"trials-{trials}.db"
    subprocess.run([sys.executable, HERE / "make_trials.py", str(trials), database], check=True, cwd=HERE.parent,
                   env=os.environ | {"PYTHONPATH": str(HERE.parent)}, stdout=subprocess.DEVNULL)  # fmt: skip
    found = []
    for name, arguments in COMMANDS.items():
        words = [word.replace("REPORT", str(folder / "report")) for word in arguments]
        words += ["--storage", f"sqlite:///{database}"]
        runs = [run_once(words, folder) for _ in range(1 if name == "report" else repeat)]
        limits = SECONDS[name]
        limit = next((limits[size] for size in sorted(limits) if trials <= size), max(limits.values()))
        seconds, megabytes = min(run[0] for run in runs), max(run[1] for run in runs)
        found.append(Measurement(name, trials, seconds, limit, megabytes, MEGABYTES.get(name, QUERY_MEGABYTES)))
    database.unlink()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trials", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = []
    print(f"{'command':14} {'trials':>8} {'seconds':>8} {'/ limit':>8} {'MB':>7} {'/ limit':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for trials in arguments.trials:
            for result in measure(trials, arguments.repeat, Path(scratch)):
                results.append(result)
                ratios = result.seconds / result.seconds_limit, result.megabytes / result.megabytes_limit
                print(f"{result.command:14} {trials:8,} {result.seconds:8.2f} {ratios[0]:8.2f} "
                      f"{result.megabytes:7.0f} {ratios[1]:8.2f}", flush=True)  # fmt: skip
    if arguments.output is not None:
        with arguments.output.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(list(Measurement.__annotations__))
            writer.writerows(list(vars(result).values()) for result in results)
    over = [r for r in results if r.seconds > r.seconds_limit or r.megabytes > r.megabytes_limit]
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
