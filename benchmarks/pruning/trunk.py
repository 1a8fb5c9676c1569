"""Branches off one annealed trunk against a chain of whole jobs: both begin with the same dense parent.

    OMP_NUM_THREADS=1 python benchmarks/pruning/trunk.py FOLDER --output docs/results/pruning/trunk

FOLDER holds the dense parents that `lineage.py FOLDER` leaves. The trunk shrinks from budget to budget without
recovery, for as many epochs as pruning takes in a job of the chain; at each budget a fork recovers like it.
The chain's figures are those of `lineage.py`. Fashion-MNIST, resnet8, one seed a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lineage import ARMS, DIRECTIONS, FRACTIONS, PARENT, budgets_of, dense_resources, sweep_of

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.planning.plan import Plan
from orchestrator.spec import FILES, NETWORK, TrialSpec
from orchestrator.worker.trial import problem_of, settings_of
from pruning.methods import method
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Outcome
from pruning.training.trained import TrainedNetwork
from search_spaces.choices import NetworkChoice
from search_spaces.tasks import Task, load_task

SUBJECT = "resnet8 x1, 6,000 images, 12 epochs"
ONLY_PRUNING = {"warmup": 0.1, "pruning": 0.85}
ONLY_RECOVERY = {"warmup": 0.0, "pruning": 0.0}

PAGE = """\
# Branches off one annealed trunk, against a chain of whole jobs

Two ways from a dense parent to twelve budgets. Chain: every job begins with the recovered network of the next larger
budget (what mcusweep does). Trunk: one network shrinks from budget to budget without recovery; at each a fork recovers,
taught by the parent. Same parent, Fashion-MNIST, resnet8, 6,000 images; pruning and recovery get about the epochs that
they have in a job of the chain. int8 test accuracy in percent, CPU seconds with export.

    OMP_NUM_THREADS=1 python benchmarks/pruning/trunk.py FOLDER --output docs/results/pruning/trunk
"""


@dataclass(frozen=True)
class Part:
    """What ends a stretch of training: its network, accuracy and CPU seconds."""

    trained: TrainedNetwork
    accuracy: float
    seconds: float


def run_part(
    spec: TrialSpec, task: Task, start: TrainedNetwork, teacher: TrainedNetwork, epochs: int, settings: dict[str, float]
) -> Part:
    """A job of ``epochs`` epochs that begins with ``start``; where that is within the budget it only recovers."""
    changed = replace(settings_of(spec, Path("nowhere")), epochs=epochs, checkpoint=None, parents=None)
    changed = replace(changed, hyperparameters={**changed.hyperparameters, **settings})
    problem = replace(problem_of(spec, task), ancestor=start, teacher=teacher)
    torch.manual_seed(spec.seed)
    began = time.process_time()
    outcome = method("differentiable").run(problem, spec.budget, changed, lambda _: True)
    seconds = time.process_time() - began
    if not isinstance(outcome, Outcome) or outcome.trained is None:
        raise SystemExit(f"{spec.budget}: no network")
    return Part(outcome.trained, int8_accuracy(outcome.model, task.x_test, task.y_test, problem), seconds)


def run_direction(
    direction: str, plan: Plan, parent: TrainedNetwork, task: Task, chosen: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for every budget of a direction, the largest first."""
    trunk, rows = parent, []
    for fraction in FRACTIONS[12]:
        name = f"{direction} {fraction}"
        trial = next(trial for trial in plan.trials if trial.budget.label == name)
        spec = plan.spec(trial, {})
        shrunk = run_part(spec, task, trunk, parent, chosen.pruning, ONLY_PRUNING)
        trunk = shrunk.trained
        fork = run_part(spec, task, trunk, parent, chosen.recovery, ONLY_RECOVERY)
        rows.append({
            "budget": name, "seed": chosen.seed, "pruning": chosen.pruning, "recovery": chosen.recovery,
            "trunk_accuracy": shrunk.accuracy, "accuracy": fork.accuracy,
            "cpu_s": round(shrunk.seconds + fork.seconds, 2),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def parent_of(chosen: argparse.Namespace) -> TrainedNetwork:
    """The dense parent of a seed that ``lineage.py`` trained.

    Raises:
        InputError: if it is not in the folder.
    """
    for path in chosen.folder.glob("lineage-*.json"):
        row = json.loads(path.read_text())
        if (row["subject"], row["seed"], row["budget"]) == (SUBJECT, chosen.seed, PARENT):
            return TrainedNetwork.read(chosen.folder / row["spec"] / FILES[NETWORK])
    raise InputError(
        f"{chosen.folder}: no dense parent of seed {chosen.seed}; run lineage.py with --arms lineage first"
    )


REASONS = """
That is within what seeds differ by, so accuracy does not decide. The chain stays, as each job of it is an ordinary job:
one that can be stopped, resumed, refused or extended alone, in less CPU time, since the trunk is exported beside its
forks. What a trunk would have for it, forks that do not wait for one another, counts where workers are more than
directions of budgets."""


def page_of(rows: list[dict[str, Any]], chain: list[dict[str, Any]]) -> str:
    """Accuracy of trunk, fork and chain at every budget."""
    lines = [
        PAGE,
        "| budget | seeds | trunk as it is | fork | chain | fork, s | chain, s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    better = []
    for budget in dict.fromkeys(row["budget"] for row in rows):
        mine = [row for row in rows if row["budget"] == budget]
        seeds = {row["seed"] for row in mine}
        theirs = [row for row in chain if row["budget"] == budget and row["seed"] in seeds]
        means = [
            statistics.mean(row[name] for row in part)
            for part, name in (
                (mine, "trunk_accuracy"),
                (mine, "accuracy"),
                (theirs, "accuracy"),
                (mine, "cpu_s"),
                (theirs, "cpu_s"),
            )
        ]
        better.append(means[2] - means[1])
        shown = " | ".join([f"{100 * mean:.2f}" for mean in means[:3]] + [f"{mean:.0f}" for mean in means[3:]])
        lines.append(f"| {budget} | {len(seeds)} | {shown} |")
    ahead = sum(gap > 0 for gap in better)
    by = 100 * statistics.mean(better)
    lines.append(f"\nThe chain is ahead at {ahead} of {len(better)} budgets, by {by:.2f} points on average.")
    lines.append(REASONS)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, write rows and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pruning", type=int, default=3, help="epochs of the trunk from one budget to the next")
    parser.add_argument("--recovery", type=int, default=4, help="epochs of a fork")
    parser.add_argument("--output", type=Path, required=True, help="of the page and the rows, without suffix")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    place = chosen.output.with_suffix(".json")
    rows = json.loads(place.read_text()) if place.exists() else []
    scale = argparse.Namespace(images=6_000, network="resnet8", width=1.0, epochs=12)
    arm = ARMS["lineage"]
    task = load_task(sweep_of(arm, chosen.seed, scale, {"any": Budget(flash=1)}).task)
    budgets = budgets_of(dense_resources(task, NetworkChoice(name=scale.network)), 12)
    plan = Plan(sweep_of(arm, chosen.seed, scale, budgets))
    for direction in DIRECTIONS:
        if not any(row["seed"] == chosen.seed and row["budget"].startswith(direction) for row in rows):
            rows += run_direction(direction, plan, parent_of(chosen), task, chosen)
            place.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    chain = [
        row for path in chosen.folder.glob("lineage-*.json")
        if (row := json.loads(path.read_text()))["subject"] == SUBJECT and row["arm"] == "lineage"
    ]  # fmt: skip
    chosen.output.with_suffix(".md").write_text(page_of(rows, chain))
    print(page_of(rows, chain))


if __name__ == "__main__":
    main()
