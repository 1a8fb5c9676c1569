"""The comparison of all methods in a lineage: the same dense parent, epochs and distillation for every method.

    python benchmarks/comparison/in_lineage.py --speech CLIPS     -> compare.db -> docs/results/comparison/lineage
    python benchmarks/comparison/in_lineage.py --report-only      the page of what is through
    ... --keep docs/results/comparison/lineage                    with the scores of that page's other methods

Every pruner begins with the networks of its own larger budgets, else with the dense parent; what trains from scratch is
taught by that parent. CLIPS is a folder of eight words of Speech Commands, as the task ``audio-folder`` reads it;
without it that task is left out. Methods run in groups; every group is a study, and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from comparison import ALL, finished, launch, trials_of

from orchestrator.planning.plan import Plan
from reports.comparison_page.page import Kept, write_comparison
from search_spaces.sweep import load_sweep

SWEEPS = Path("examples/compare")
LEARNING_RATE = 0.1
SEEDS = 3
BALANCE = 1.0
GROUPS = (
    ("differentiable", "group-norm-sparse", "l1", "uniform"),
    ("differentiable-balanced",),
    ("differentiable-no-sram", "differentiable-macs-only", "slimming", "l2"),
    ("group-norm", "fpgm", "taylor", "random"),
)
"""Methods that share a study; ``differentiable-balanced`` is ``differentiable`` with a price on unbounded resources."""
TASKS = {"fashion-mnist": "fashion_mnist.toml", "speech": "keywords.toml", "watch": "watch.toml"}
SPEECH_EPOCHS = 30

HEADING = """# All methods in a lineage

Networks, budgets and epochs are those of `examples/compare`, with one learning rate, {rate:g}, {seeds} seeds, and a
lineage: a dense parent trained for twice the epochs, once a seed, for all methods. Every pruner begins with the network
of its own next larger budget, else with the parent's, trains for half to all of the epochs by the distance to it, and
is taught by the parent while it recovers; `uniform` trains from scratch for all of the epochs and is taught by it too.
`differentiable-balanced` prices resources without a bound (`balance = {balance:g}`). `differentiable` is of commit
d85f448, which tries half the resolution ([method](../../../method.md#half-the-resolution)); the other methods, its own
variants among them, are of earlier commits and keep it. The trials that decide, 60 steps of a small network each, come
on top of the epochs. Under the rule of commit 3ddbdf8, by which halving wins ties, the twelve trials of watch and the
two of speech that ran again are equal; those of fashion-mnist did not. Epochs
by distance are those of commits up to e783778, which counted whole bounds, not what widths can change of them.
In place of synthetic keywords: 5,032 recordings of 8 words of Speech Commands v0.01, speakers apart, {speech} epochs.

    python benchmarks/comparison/in_lineage.py --speech CLIPS

{through}
"""


def main() -> int:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sqlite:///compare.db")
    parser.add_argument("--output", type=Path, default=Path("docs/results/comparison/lineage"))
    parser.add_argument("--speech", type=Path, help="folder of the recordings")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--groups", type=int, nargs="+", choices=range(len(GROUPS)), default=list(range(len(GROUPS))))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--keep", type=Path, help="folder of an earlier page: its methods that are not run here")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    kept = Kept.read(options.keep) if options.keep else None
    for group in options.groups if not options.report_only else ():
        for task in options.tasks:
            if task == "speech" and options.speech is None:
                continue
            sets = overrides(task, GROUPS[group], options.speech)
            status = launch(SWEEPS / TASKS[task], options.storage, options.workers, sets)
            if status not in ALL:
                return status
    tables: dict[str, pd.DataFrame] = {}
    through = []
    for task in TASKS:
        found = [table for methods in GROUPS if (table := _through(task, methods, options)) is not None]
        if found:
            tables[task] = pd.concat(found, ignore_index=True)
        scores = [kept.scores[kept.scores["task"] == task]] if kept else []
        names = dict.fromkeys(name for table in (*scores, *found) for name in table["method"])
        through.append(f"- {task}: {', '.join(names) or 'none'}")
    if not tables:
        print(f"{options.storage}: no group is through yet", file=sys.stderr)
        return 1
    heading = HEADING.format(
        rate=LEARNING_RATE,
        balance=BALANCE,
        seeds=SEEDS,
        speech=SPEECH_EPOCHS,
        through="Methods through:\n" + "\n".join(through),
    )
    print(write_comparison(tables, options.output, heading=heading, kept=kept))
    return 0


def overrides(task: str, methods: tuple[str, ...], speech: Path | None) -> list[str]:
    """What makes the comparison's sweep that of a group of methods in a lineage."""
    budgets = len(load_sweep(SWEEPS / TASKS[task]).planned_budgets())
    names = [name.removesuffix("-balanced") for name in methods]
    sets = [
        f'sweep.name="lineage-{task}-{methods[0]}"',
        f"sweep.seeds={SEEDS}",
        f"sweep.trials={budgets * SEEDS}",
        f"methods.names={names}",
        f"hyperparameters.learning_rate={LEARNING_RATE}",
        "lineage.enabled=true",
    ]
    if names != list(methods):
        sets.append(f"hyperparameters.balance={BALANCE}")
    if task == "speech":
        sets += [
            f'task.data="{speech}"',
            'task.name="audio-folder"',
            "task.options={}",
            f"training.epochs={SPEECH_EPOCHS}",
        ]
    return sets


def _through(task: str, methods: tuple[str, ...], options: argparse.Namespace) -> pd.DataFrame | None:
    """The trials of a group; None before all of them are through. The dense parent is no method of the comparison."""
    sweep = load_sweep(SWEEPS / TASKS[task], overrides(task, methods, options.speech))
    table = trials_of(sweep, options.storage)
    if table is None or len(finished(table)) < len(Plan(sweep).trials):
        return None
    mine = table[table["method"].isin(sweep.methods.names)]
    return mine.replace({"method": dict(zip(sweep.methods.names, methods, strict=True))})


if __name__ == "__main__":
    sys.exit(main())
