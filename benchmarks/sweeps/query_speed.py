"""Time and peak memory of whole `mcusweep` processes over made-up studies, as ratios of stated limits.

    python benchmarks/sweeps/query_speed.py [1000 10000 100000] [--repeat 3] [--output FILE.csv] [--figure FILE.svg]

A ratio below 1 keeps the limit. Times are the best of the repeats (a busy machine only adds), memory the largest;
processor seconds are what a process used itself, which a busy machine changes less.
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
    processor_seconds: float
    megabytes: float
    megabytes_limit: float


def run_once(arguments: list[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident megabytes of one process."""
    begin = time.perf_counter()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", *arguments], stdout=out, stderr=err, cwd=HERE.parents[1]
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed: {(folder / 'err').read_text()[-500:]}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(trials: int, repeat: int, folder: Path, report: bool) -> list[Measurement]:
    """Every command over a made-up study of so many trials; the report if it is wanted."""
    database = folder / f"trials-{trials}.db"
    subprocess.run([sys.executable, HERE / "make_trials.py", str(trials), database], check=True, cwd=HERE.parents[1],
                   env=os.environ | {"PYTHONPATH": str(HERE.parents[1])}, stdout=subprocess.DEVNULL)  # fmt: skip
    found = []
    for name, arguments in COMMANDS.items():
        if name == "report" and not report:
            continue
        words = [word.replace("REPORT", str(folder / "report")) for word in arguments]
        words += ["--storage", f"sqlite:///{database}"]
        runs = [run_once(words, folder) for _ in range(1 if name == "report" else repeat)]
        limits = SECONDS[name]
        limit = next((limits[size] for size in sorted(limits) if trials <= size), max(limits.values()))
        seconds, busy = min(run[0] for run in runs), min(run[1] for run in runs)
        room = MEGABYTES.get(name, QUERY_MEGABYTES)
        found.append(Measurement(name, trials, seconds, limit, busy, max(run[2] for run in runs), room))
    database.unlink()
    return found


def draw(results: list[Measurement], path: Path) -> None:
    """Processor seconds and memory against trials, a line per command."""
    from mcu.units import format_count
    from reports.figures.scales import log_ticks
    from reports.figures.style import PALETTE, Style, encode, legend_below, new_figure, styled

    with styled(Style.SCREEN):
        figure = new_figure(7.2, 3.2)
        left, right = figure.subplots(1, 2)
        for axes, name, title in (
            (left, "processor_seconds", "processor seconds of the whole process"),
            (right, "megabytes", "megabytes at its peak"),
        ):
            for at, command in enumerate(COMMANDS):
                mine = sorted((r.trials, getattr(r, name)) for r in results if r.command == command)
                axes.plot(*zip(*mine, strict=True), marker="o", markersize=4, color=PALETTE[at], label=command)
            axes.set_xscale("log")
            axes.set_yscale("log")
            sizes, (low, high) = sorted({r.trials for r in results}), axes.get_ylim()
            ticks = log_ticks(low, high, "macs")
            axes.set_xticks(sizes, [format_count(size) for size in sizes])
            axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("trials in the study")
            axes.set_title(title, fontsize="medium")
        legend_below(figure, *left.get_legend_handles_labels())
        path.write_bytes(encode(figure, (path.suffix[1:],))[path.suffix[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trials", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--largest-report", type=int, default=100_000, help="trials; larger studies are only queried")
    arguments = parser.parse_args()
    results = []
    print(f"{'command':14} {'trials':>8} {'seconds':>8} {'/ limit':>8} {'cpu s':>7} {'MB':>7} {'/ limit':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for trials in arguments.trials:
            for result in measure(trials, arguments.repeat, Path(scratch), trials <= arguments.largest_report):
                results.append(result)
                ratios = result.seconds / result.seconds_limit, result.megabytes / result.megabytes_limit
                cells = f"{result.seconds:8.2f} {ratios[0]:8.2f} {result.processor_seconds:7.2f}"
                print(f"{result.command:14} {trials:8,} {cells} {result.megabytes:7.0f} {ratios[1]:8.2f}", flush=True)
    if arguments.output is not None:
        with arguments.output.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(list(Measurement.__annotations__))
            rows = [list(vars(result).values()) for result in results]
            writer.writerows([round(cell, 3) if isinstance(cell, float) else cell for cell in row] for row in rows)
    if arguments.figure is not None:
        draw(results, arguments.figure)
    over = [r for r in results if r.seconds > r.seconds_limit or r.megabytes > r.megabytes_limit]
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
