"""The hypervolume of the comparison, our job asked for what the uniform network used of each budget.

    python benchmarks/comparison/equal_use.py     docs/results/comparison -> docs/results/comparison/equal_use.md
    python benchmarks/comparison/equal_use.py --report-only     the page of the tasks that are through

A hypervolume counts what a model takes of all three resources. Most budgets of the comparison bound one or two, and a
job that makes use of its budget takes what it likes of the others. Here it is told all three: the bytes and operations
of the uniform network at the same budget of the comparison. Epochs, seeds and learning rates are the comparison's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from comparison import ALL, finished, launch, trials_of

from mcu.budget import RESOURCES
from mcu.units import format_bytes, format_count
from orchestrator.planning.plan import Plan
from reports.comparison.seed_scores import seed_scores
from reports.comparison.volumes import volumes
from reports.intervals import bootstrap_mean
from reports.table import percent
from reports.trials import tidy
from search_spaces.sweep import SweepConfig, load_sweep

METHOD, ASKED = "differentiable", "uniform"
NAME = f"{METHOD}, asked for the use of {ASKED}"

PAGE = """\
# What a job is asked for, and its hypervolume

The hypervolume of [the comparison](README.md) counts what a model takes of flash, SRAM and MACs, but most of
its budgets bound only one or two of them, and a job that makes use of its budget takes what it likes of the others.
Here ours was told all three: what the uniform network took at the same budget. Epochs, seeds and learning rates are the
comparison's. The hypervolume's box is drawn around ours here, too, so the others' values differ a little from those
there. Added after the comparison had been seen; it replaces nothing. Our scores by seed:
[equal_use.csv](equal_use.csv).

    python benchmarks/comparison/equal_use.py
"""


def main() -> int:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=Path, nargs="+", default=sorted(Path("examples/compare").glob("*.toml")))
    parser.add_argument("--comparison", type=Path, default=Path("docs/results/comparison/sample.csv"))
    parser.add_argument("--storage", default="sqlite:///compare.db")
    parser.add_argument("--output", type=Path, default=Path("docs/results/comparison/equal_use.md"))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    lines, found, everything = [PAGE], [], pd.read_csv(options.comparison)
    for path in options.sweeps:
        sweep = load_sweep(path)
        scores = everything[everything["task"] == sweep.task.name]
        use = scores[scores["method"] == ASKED].groupby("budget", sort=False)[list(RESOURCES)].max().astype(int)
        changes = overrides(sweep, use)
        if not options.report_only and (status := launch(path, options.storage, options.workers, changes)) not in ALL:
            return status
        asked = load_sweep(path, changes)
        ours = trials_of(asked, options.storage)
        if ours is not None and len(finished(ours)) >= len(Plan(asked).trials):
            found.append(at_budgets(sweep.task.name, tidy(ours), use))
            lines += section(scores, found[-1], use)
    if not found:
        print("no task is through: nothing to write", file=sys.stderr)
        return 1
    options.output.write_text("\n".join(lines) + "\n")
    pd.concat(found).to_csv(options.output.with_suffix(".csv"), index=False, lineterminator="\n")
    print("\n".join(lines))
    return 0


def overrides(sweep: SweepConfig, use: pd.DataFrame) -> list[str]:
    """What makes a sweep of the comparison that of our method at the bounds ``use``, a row of them per budget."""
    asked = use.drop_duplicates()  # bounds that the uniform network meets at the same width
    rows = [", ".join(f"{name} = {bound}" for name, bound in row.items()) for _, row in asked.iterrows()]
    return [
        f'sweep.name="{sweep.sweep.name}-equal-use"',
        f'methods.names=["{METHOD}"]',
        f"sweep.trials={sweep.sweep.trials // len(use) * len(asked)}",
        f"budgets.list=[{', '.join(f'{{{row}}}' for row in rows)}]",
    ]


def at_budgets(task: str, table: pd.DataFrame, use: pd.DataFrame) -> pd.DataFrame:
    """The scores of our trials at every budget of the comparison, by the bounds they were given for it."""
    parts = []
    for budget, bounds in use.iterrows():
        mine = table[(table[[f"budget_{name}" for name in RESOURCES]] == bounds.to_numpy()).all(axis=1)]
        parts.append(seed_scores({task: mine}).assign(budget=str(budget), method=NAME))
    return pd.concat(parts, ignore_index=True)


def section(scores: pd.DataFrame, ours: pd.DataFrame, use: pd.DataFrame) -> Iterator[str]:
    """Accuracies at the same use, then hypervolumes with ours among them."""
    task = scores["task"].iloc[0]
    yield f"\n## {task}\n"
    yield f"| budget of the comparison | asked for | {ASKED} | {METHOD} | difference (95 %) |"
    yield "|---|---|---|---|---|"
    for budget, bounds in use.iterrows():
        pair = [
            rows[rows["budget"] == budget].set_index("seed")["accuracy"]
            for rows in (scores[scores["method"] == ASKED], ours)
        ]
        gains = (pair[1] - pair[0]).tolist()
        low, high = bootstrap_mean(sorted(gains), np.random.default_rng(0)) or (float("nan"),) * 2
        asked = f"{format_bytes(bounds['flash'])}, {format_bytes(bounds['sram'])}, {format_count(bounds['macs'])}"
        yield (
            f"| {budget} | {asked} | {percent(pair[0].mean())} | {percent(pair[1].mean())} | "
            f"{100 * sum(gains) / len(gains):+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) |"
        )
    yield "\n| method | hypervolume (95 %) | minus ours here, in points (95 %) |"
    yield "|---|---|---|"
    found = volumes(pd.concat([scores, ours], ignore_index=True), reference=NAME)
    for volume in sorted(found, key=lambda volume: -volume.mean):
        if volume.mean > 0:
            (low, high), (less, more) = volume.interval or (0, 0), volume.gain_interval or (0, 0)
            yield (
                f"| {volume.method} | {percent(volume.mean)} ({percent(low)} to {percent(high)}) | "
                f"{100 * (volume.gain or 0):+.1f} ({100 * less:+.1f} to {100 * more:+.1f}) |"
            )


if __name__ == "__main__":
    sys.exit(main())
