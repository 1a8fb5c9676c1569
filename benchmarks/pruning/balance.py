"""What a small price on resources that have no bound saves, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/pruning/balance.py FOLDER --output docs/results/pruning/balance.md

Jobs that are in FOLDER already are not run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from overhead import problem_on

from mcu.budget import Budget
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.differentiable import DifferentiablePruning
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Outcome, Settings
from search_spaces.choices import NetworkChoice, TaskChoice
from search_spaces.networks import build_network
from search_spaces.tasks import load_task

NETWORK = NetworkChoice(name="resnet8")
IMAGES, EPOCHS, SEEDS = 6_000, 8, (0, 1, 2)
PARTS, BALANCES = (0.4, 0.2, 0.1), (0.0, 0.3, 1.0)

PAGE = f"""\
# A small price on resources nobody bounded

    OMP_NUM_THREADS=1 python benchmarks/pruning/balance.py FOLDER --output docs/results/pruning/balance.md

Fashion-MNIST, resnet8, {IMAGES:,} images x {EPOCHS} epochs, {len(SEEDS)} seeds; the budget bounds flash alone, at a
part of the dense network's. `balance` is the hyperparameter of that name: 0 is no price. Means over the seeds; int8
test accuracy with its standard deviation.

| part of flash | `balance` | MACs | SRAM | test accuracy |
|---|---|---|---|---|
"""


def run(part: float, balance: float, seed: int, folder: Path) -> dict[str, Any]:
    """Run one job, or read what came of it."""
    target = folder / f"{part:g}-{balance:g}-{seed}.json"
    if target.exists():
        return dict(json.loads(target.read_text()))
    problem = problem_on(NETWORK, IMAGES, EPOCHS)
    problem = replace(problem, network=lambda: build_network(NETWORK, problem.input_shape, problem.classes, seed))
    model = ResourceModel(trace(problem.network(), problem.input_shape).graph)
    flash = int(part * model.exact(model.dense_widths).flash)
    torch.manual_seed(seed)
    settings = Settings(EPOCHS, seed=seed, hyperparameters={"balance": balance})
    outcome = DifferentiablePruning().run(problem, Budget(flash=flash), settings, lambda progress: True)
    assert isinstance(outcome, Outcome)
    used = problem.runtime.measure(outcome.model, outcome.data)
    task = load_task(TaskChoice(name="fashion-mnist", options={"train_limit": IMAGES, "val_limit": 500}))
    row = {"accuracy": int8_accuracy(outcome.model, task.x_test, task.y_test, problem), **asdict(used)}
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row))
    print(part, balance, seed, row, flush=True)
    return row


def main() -> None:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = PAGE
    for part in PARTS:
        for balance in BALANCES:
            rows = [run(part, balance, seed, options.folder) for seed in SEEDS]
            macs, sram = (np.mean([row[name] for row in rows]) for name in ("macs", "sram"))
            scores = [100 * row["accuracy"] for row in rows]
            page += f"| {part:g} | {balance:g} | {macs / 1e6:.2f} M | {sram / 1024:.1f} KB | "
            page += f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f} % |\n"
    print(page)
    if options.output:
        options.output.write_text(page)


if __name__ == "__main__":
    main()
