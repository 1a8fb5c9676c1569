"""The comparison of all methods: run the sweeps of a folder, or go on with them, then write one report.

    python benchmarks/comparison/comparison.py                examples/compare -> compare.db -> docs/results/comparison
    python benchmarks/comparison/comparison.py --report-only  the report of what has finished so far
    python benchmarks/comparison/comparison.py --estimate     core hours left to go, from the trials that have finished
    python benchmarks/comparison/comparison.py --storage sqlite:///again.db --set 'methods.names=["differentiable"]' \
        --keep docs/results/comparison               run one method anew, the others' scores from that comparison

Every sweep is an ordinary study: interrupted ones go on where they stopped, equal trials are not run twice. After each
comes a small one of the unpruned network, with no bound that it could break: the line to hold the others against.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mcu.errors import InputError
from mcusweep import open_study
from orchestrator.planning.plan import Plan
from reports.comparison.seed_scores import seed_scores
from reports.comparison_page.page import Kept, write_comparison
from reports.table import percent
from reports.trials import tidy
from search_spaces.sweep import SweepConfig, load_sweep

HEADING = """# Comparison of all methods

Protocol: [docs/protocol.md](../../protocol.md). Sweeps: `examples/compare`.
Made by `make compare`, which goes on where it stopped and runs nothing twice. The watch task once more, with every
subject tested in turn: [watch_subjects](watch_subjects/README.md).
"""
PARTIAL = """\
**Not complete.** A round of trials counts when all methods have finished it, so all had the same budgets, seeds and
learning rates; but less tuning than planned, and less than the unpruned networks, which are through."""
UNPRUNED = ('methods.names=["dense-ptq"]', 'budgets.list=[{flash = "1024MB"}]')
ALL = 0, 1  # exit status of a launch: done, or done with every trial failed


def main() -> int:
    options = _options()
    kept = Kept.read(options.keep) if options.keep else None
    files = sorted(options.sweeps.glob("*.toml"))
    if not files:
        print(f"--sweeps {options.sweeps}: holds no sweep file", file=sys.stderr)
        return 2
    sweeps = {path: load_sweep(path, options.set) for path in files}
    if not options.report_only and not options.estimate:
        for path, sweep in sweeps.items():
            for overrides in ([], unpruned(sweep)):
                status = launch(path, options.storage, options.workers, [*options.set, *overrides])
                if status not in ALL:
                    return status
    tables = {
        sweep.task.name: table for sweep in sweeps.values() if (table := trials_of(sweep, options.storage)) is not None
    }
    _print_cost(sweeps, tables)
    if options.estimate:
        return 0
    references = {path: _reached(trials_of(load_sweep(path, [*options.set, *unpruned(sweep)]), options.storage))
                  for path, sweep in sweeps.items()}  # fmt: skip
    tables = {sweep.task.name: _whole_rounds(sweep, tables[sweep.task.name])
              for sweep in sweeps.values() if sweep.task.name in tables}  # fmt: skip
    heading = HEADING + _what_ran(sweeps, tables, references, kept)
    page = write_comparison(tables, options.output, heading=heading, kept=kept)
    print(page)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=Path, default=Path("examples/compare"))
    parser.add_argument("--storage", default="sqlite:///compare.db")
    parser.add_argument("--output", type=Path, default=Path("docs/results/comparison"))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as `mcusweep launch --set`")
    parser.add_argument("--keep", type=Path, help="folder of an earlier comparison: its methods that are not run here")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--estimate", action="store_true")
    return parser.parse_args()


def unpruned(sweep: SweepConfig) -> list[str]:
    """What turns a sweep of the comparison into that of its dense network: same seeds, epochs and tuning."""
    trials = sweep.sweep.trials // len(sweep.planned_budgets())
    return [f'sweep.name="{sweep.sweep.name}-unpruned"', f"sweep.trials={trials}", *UNPRUNED]


def launch(path: Path, storage: str, workers: int | None, overrides: Sequence[str]) -> int:
    """Run a sweep in a process of its own, or go on with it; returns its exit status."""
    command = [sys.executable, "-m", "orchestrator.cli.main", "launch", str(path), "--storage", storage]
    command += ["--workers", str(workers)] if workers else []
    command += [word for override in overrides for word in ("--set", override)]
    print("$", " ".join(command[2:]), file=sys.stderr)
    return subprocess.run(command, check=False).returncode


def trials_of(sweep: SweepConfig, storage: str) -> pd.DataFrame | None:
    """The table of a sweep's trials; None if it has not begun."""
    try:
        return open_study(sweep.sweep.name, storage).trials()
    except InputError:
        return None


def _print_cost(sweeps: dict[Path, SweepConfig], tables: dict[str, pd.DataFrame]) -> None:
    """Per task: trials done, core hours spent, and what is left at the mean of each method so far."""
    total = 0.0
    for sweep in sweeps.values():
        planned = len(Plan(sweep).trials)
        table = tables.get(sweep.task.name)
        if table is None or not (table["duration_s"].fillna(0) > 0).any():
            print(f"{sweep.task.name}: 0 of {planned} trials done", file=sys.stderr)
            continue
        done = finished(table)
        left = sum(_left(sweep, method, done) for method in sweep.methods.names)
        spent = float(done["duration_s"].sum()) / 3600
        total += left
        print(f"{sweep.task.name}: {len(done)} of {planned} trials done in {spent:.2f} h of one core, "
              f"about {left:.2f} h to go", file=sys.stderr)  # fmt: skip
    print(f"to go: about {total:.1f} h of one core", file=sys.stderr)


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The trials that are through, refused budgets included."""
    return table[table["duration_s"].notna()]


def _whole_rounds(sweep: SweepConfig, table: pd.DataFrame) -> pd.DataFrame:
    """The trials of the rounds that every method has finished: none has had more tuning than another."""
    rounds = {trial.number: trial.index for trial in Plan(sweep).trials}
    done = set(finished(table)["number"])
    unfinished = [index for number, index in rounds.items() if number not in done]
    return table[table["number"].map(rounds) < min(unfinished, default=len(rounds))]


def _left(sweep: SweepConfig, method: str, done: pd.DataFrame) -> float:
    mine = done.loc[done["method"] == method, "duration_s"]
    each = float(mine.mean()) if len(mine) else float(done["duration_s"].mean())
    return (sweep.trials_of(method) - len(mine)) * each / 3600


def _reached(trials: pd.DataFrame | None) -> str:
    """int8 test accuracy of the unpruned network, mean and deviation over seeds; empty if it has not run."""
    scores = seed_scores({"": tidy(trials)})["accuracy"].dropna() if trials is not None else pd.Series(dtype=float)
    spread = f" ± {100 * scores.std():.1f}" if len(scores) > 1 else ""
    return f"unpruned, its int8 model reaches {percent(scores.mean())}{spread}; " if len(scores) else ""


def _what_ran(
    sweeps: dict[Path, SweepConfig], tables: dict[str, pd.DataFrame], references: dict[Path, str], kept: Kept | None
) -> str:
    lines: list[str] = [""]
    planned = {sweep.task.name: len(Plan(sweep).trials) for sweep in sweeps.values()}
    if any(len(finished(table)) < planned[name] for name, table in tables.items()):
        lines = ["", PARTIAL, ""]
    for path, sweep in sweeps.items():
        table = tables.get(sweep.task.name)
        if table is None:
            continue
        limits = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sweep.task.options.items())
        done = len(finished(table))
        hours = float(table["duration_s"].fillna(0).sum()) / 3600
        networks: Sequence[str] = [choice.name for choice in sweep.network.choices()]
        lines.append(
            f"- {sweep.task.name} ({limits or 'all data'}): {', '.join(networks)}, {sweep.training.epochs} epochs, "
            f"{references[path]}{done} of {len(Plan(sweep).trials)} trials done, {hours:.1f} h of one core; {path.name}"
        )
    if kept is not None:
        again = ", ".join(dict.fromkeys(name for sweep in sweeps.values() for name in sweep.methods.names))
        lines += ["", f"Trials and hours above are those of {again}, run anew by the same protocol. The scores and "
                  "hours of all other methods are kept from an earlier run: hours of the two do not "
                  "compare."]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
