"""The comparison on the watch task with every subject tested in turn, not two of the ten alone.

    python benchmarks/comparison/watch_subjects.py     -> compare.db -> docs/results/comparison/watch_subjects
    python benchmarks/comparison/watch_subjects.py --report-only    the page of the subjects that are through

Leave-one-subject-out is how the data's authors evaluate (Burns et al., arXiv 1802.01489). Budgets, methods, network and
epochs are those of examples/compare/watch.toml; one training seed and one learning rate for each subject. A subject
takes the place of a seed in the statistics. Every subject is a study; interrupted ones go on where they stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from comparison import ALL, finished, launch, trials_of

from orchestrator.planning.plan import Plan
from reports.comparison_page.page import write_comparison
from search_spaces.sweep import load_sweep

SWEEP = Path("examples/compare/watch.toml")
SUBJECTS = range(1, 11)
LEARNING_RATE = 0.1

HEADING = """# The watch task, every subject in turn

The split of [the comparison](../README.md) tests on two of ten subjects, and its seeds differ in training
only, so its intervals do not say what another pair of wrists would give. Here each of the ten is tested once and the
next one validates (leave-one-subject-out, as Burns et al. do): methods, budgets, network and epochs are those of
`examples/compare/watch.toml`, with one learning rate, {rate:g}. "Seeds" below are subjects.
This was added after the comparison's own split had been seen; it replaces nothing there.

    python benchmarks/comparison/watch_subjects.py

Subjects through: {done} of {all}.
"""


def main() -> int:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sqlite:///compare.db")
    parser.add_argument("--output", type=Path, default=Path("docs/results/comparison/watch_subjects"))
    parser.add_argument("--subjects", type=int, nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    if not options.report_only:
        for subject in options.subjects:
            status = launch(SWEEP, options.storage, options.workers, overrides(subject))
            if status not in ALL:
                return status
    found = {subject: table for subject in SUBJECTS if (table := _finished(subject, options.storage)) is not None}
    if not found:
        print(f"{options.storage}: no subject is through yet", file=sys.stderr)
        return 1
    table = pd.concat([rows.assign(seed=subject) for subject, rows in found.items()], ignore_index=True)
    heading = HEADING.format(rate=LEARNING_RATE, done=len(found), all=len(SUBJECTS))
    print(write_comparison({"watch": table}, options.output, heading=heading))
    return 0


def overrides(subject: int) -> list[str]:
    """What makes the comparison's sweep that of one held-out subject."""
    budgets = len(load_sweep(SWEEP).planned_budgets())
    return [
        f'sweep.name="watch-subject-{subject}"',
        f"sweep.seed={subject}",
        "sweep.seeds=1",
        f"sweep.trials={budgets}",
        f"task.options={{held_out={subject}}}",
        f"hyperparameters.learning_rate={LEARNING_RATE}",
    ]


def _finished(subject: int, storage: str) -> pd.DataFrame | None:
    """The trials of a subject that every method is through with."""
    sweep = load_sweep(SWEEP, overrides(subject))
    table = trials_of(sweep, storage)
    return table if table is not None and len(finished(table)) >= len(Plan(sweep).trials) else None


if __name__ == "__main__":
    sys.exit(main())
