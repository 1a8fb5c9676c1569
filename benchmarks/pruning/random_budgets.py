"""Random networks, tasks and budgets: is every job within its budget, is the budget used, are refusals right?

    OMP_NUM_THREADS=1 python benchmarks/pruning/random_budgets.py FOLDER --table docs/results/pruning/random_budgets.md

Bounds are 2 to 50 times below the dense network, on a random subset of flash, SRAM and MACs. Schedules are short:
accuracy is not the question here. Jobs that are in FOLDER already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcu.budget import RESOURCES, Budget
from mcu.resource_model import ResourceModel
from orchestrator.spec import TrialSpec
from orchestrator.worker.trial import problem_of
from pruning.differentiable import DifferentiablePruning
from pruning.engine.depth import shallowest
from pruning.engine.landing import UnreachableBudgetError
from pruning.training.problem import Outcome, Problem, Settings
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.tasks import load_task, task_digest

NETWORKS = {
    "digits": ("plain-cnn", "resnet8", "vgg-small", "ds-cnn", "mobilenet-v2", "resnet20", "mobilenet-v1"),
    "mnist-5k": ("plain-cnn", "resnet8", "ds-cnn", "vgg-small"),
    "watch": ("tiny-cnn1d",),
}
SHARES = (0.55, 0.3, 0.15)
EPOCHS = 3
LOWEST, HIGHEST = 2.0, 50.0
BRUTE_FORCE = 4096


PAGE = """\
# Random budgets: kept, used, and rightly refused

Random networks, tasks and budgets; bounds {low:g} to {high:g} times below the dense network on a random subset of
flash, SRAM and MACs; {epochs} epochs of at most 1,500 samples, as accuracy is not the question here.

    OMP_NUM_THREADS=1 python benchmarks/pruning/random_budgets.py FOLDER --table docs/results/pruning/random_budgets.md
"""


def draw(index: int) -> dict[str, Any]:
    """The ``index``-th random job; the same at every call."""
    rng = np.random.default_rng([2022, index])
    task = str(rng.choice(list(NETWORKS), p=SHARES))
    size = int(rng.integers(1, len(RESOURCES) + 1))
    return {
        "index": index,
        "task": task,
        "network": str(rng.choice(NETWORKS[task])),
        "width": float(rng.choice([0.35, 0.5])),
        "factors": {
            str(name): float(np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST))))
            for name in rng.choice(RESOURCES, size, replace=False)
        },
    }


def problem_for(job: dict[str, Any]) -> Problem:
    """Its data, cut to 1,500 samples, and its network."""
    choice = TaskChoice(name=job["task"], options={"train_limit": 1500, "val_limit": 200, "test_limit": 200})
    spec = TrialSpec(
        task=choice, data=task_digest(choice), network=NetworkChoice(name=job["network"], width=job["width"]),
        method="differentiable", budget=Budget(), seed=job["index"],
        training=TrainingChoice(epochs=EPOCHS, device="cpu"),
    )  # fmt: skip
    return problem_of(spec, load_task(choice))


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one job, or read what came of it."""
    target = folder / f"{job['index']:04d}.json"
    if target.exists():
        return dict(json.loads(target.read_text()))
    problem = problem_for(job)
    model = ResourceModel(problem.constraints.trace(problem.network()).graph, problem.runtime)
    dense = model.exact(model.dense_widths)
    bounds: dict[str, Any] = {
        name: max(1, int(getattr(dense, name) / factor)) for name, factor in job["factors"].items()
    }
    row, started = job | {"bounds": bounds}, time.process_time()
    try:
        settings = Settings(EPOCHS, 64, job["index"])
        outcome = DifferentiablePruning().run(problem, Budget(**bounds), settings, lambda progress: True)
        assert isinstance(outcome, Outcome)
        used = problem.runtime.measure(outcome.model, outcome.data)
        row |= {
            "state": "complete",
            "used": {name: getattr(used, name) for name in RESOURCES},
            "within": Budget(**bounds).admits(used),
            "binding_use": Budget(**bounds).binding_use(used),
            "dense_enough": bool(
                (np.array(list(outcome.widths.values())) == list(outcome.dense_widths.values())).all()
            ),
        }
    except UnreachableBudgetError as error:
        shallow = ResourceModel(shallowest(problem.network(), problem.constraints), problem.runtime)
        truly = all(is_unreachable(each, Budget(**bounds)) for each in (model, shallow))
        row |= {"state": "refused", "reason": str(error), "truly": truly}
    row["seconds"] = time.process_time() - started
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row))
    print(job["index"], job["task"], job["network"], bounds, row["state"], row.get("binding_use", ""), flush=True)
    return row


def is_unreachable(model: ResourceModel, budget: Budget) -> bool:
    """Whether no network with one or two channels per group is within the budget; a sample where those are many."""
    groups = len(model.graph.groups)
    if 2**groups <= BRUTE_FORCE:
        candidates: Any = itertools.product((1, 2), repeat=groups)
    else:
        candidates = np.random.default_rng(0).integers(1, 3, (BRUTE_FORCE, groups))
    smallest = np.ones(groups, dtype=np.int64)
    return not any(
        budget.admits(model.exact(np.minimum(widths, model.dense_widths)))
        for widths in itertools.chain([smallest], map(np.array, candidates))
    )


def table(rows: list[dict[str, Any]]) -> str:
    """What held, by network and in all."""
    complete = [row for row in rows if row["state"] == "complete"]
    refused = [row for row in rows if row["state"] == "refused"]
    uses = np.array([row["binding_use"] for row in complete])
    within, used, truly = sum(r["within"] for r in complete), (uses >= 0.95), sum(r["truly"] for r in refused)
    lines = [
        PAGE.format(low=LOWEST, high=HIGHEST, epochs=EPOCHS),
        f"- completed jobs within the budget on measured bytes: {within} of {len(complete)}",
        f"- tightest bound used to at least 95 %: {used.sum()} of {len(uses)} ({100 * used.mean():.1f} %)",
        f"- refused budgets that brute force confirms: {truly} of {len(refused)}",
        "",
        "| task | network | jobs | within | use: median | least | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    counts = Counter((row["task"], row["network"]) for row in refused)
    for task, network in sorted({(row["task"], row["network"]) for row in rows}):
        mine = [row for row in complete if (row["task"], row["network"]) == (task, network)]
        parts = np.array([row["binding_use"] for row in mine])
        spread = f"{100 * np.median(parts):.1f} % | {100 * parts.min():.1f} %" if mine else " | "
        good = sum(row["within"] for row in mine)
        lines.append(f"| {task} | {network} | {len(mine)} | {good} | {spread} | {counts[task, network]} |")
    low = sorted((row for row in complete if row["binding_use"] < 0.95), key=lambda row: row["binding_use"])
    if low:
        lines += ["", "Below 95 %:", ""]
        lines += [f"- {r['task']}, {r['network']}: {r['bounds']}, used {r['used']}" for r in low]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draw until so many jobs are complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--table", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    while sum(row["state"] == "complete" for row in rows) < chosen.jobs:
        rows.append(run(draw(len(rows)), chosen.folder))
    print(table(rows))
    if chosen.table:
        chosen.table.write_text(table(rows))


if __name__ == "__main__":
    main()
