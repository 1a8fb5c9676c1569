"""Which residual branch to remove at budgets that fixed costs contest: every choice trained to its end.

    OMP_NUM_THREADS=1 python benchmarks/pruning/branches.py STORAGE FILES --output PAGE

STORAGE has the study of `benchmarks/comparison/in_lineage.py` on Fashion-MNIST, FILES its networks. Jobs begin with the
networks its trials at 10 KB and 12 KB began with, and get other budgets. What is in the scores beside the page already
is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch

from mcu.budget import Budget
from orchestrator.spec import TrialSpec
from orchestrator.storage.store import Store
from orchestrator.worker.trial import inheriting, problem_of, settings_of
from pruning.differentiable import DifferentiablePruning
from pruning.engine import depth
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Outcome
from search_spaces.tasks import load_task

STUDY = "lineage-fashion-mnist-differentiable"
FROM = Budget(flash=10 * 1024, sram=12 * 1024)
BUDGETS = (FROM, Budget(flash=12_288, sram=9_216), Budget(flash=16_769, sram=8_848))
CHOICES = {"all kept": (), "first": (0,), "second": (1,), "third": (2,), "chosen": None}
"""Indices of the removed branches in order of execution; None leaves it to the trials."""

PAGE = """\
# Branches by trial

    OMP_NUM_THREADS=1 python benchmarks/pruning/branches.py STORAGE FILES --output PAGE

resnet8 on Fashion-MNIST (6,000 images, 12 epochs, in a lineage), three seeds; one channel in every group takes
{fixed} of the SRAM bounds. Every choice of one branch is trained to the end; `chosen` is left to the trials
(`pruning/engine/depth.py`). int8 test accuracy in percent, each seed and their mean.

| flash, SRAM | all kept | first removed | second removed | third removed | chosen | core s: all kept, chosen |
|---|---|---|---|---|---|---|
"""


def run(spec: TrialSpec, budget: Budget, choice: str, files: Path) -> dict[str, Any]:
    """One job: its scores."""
    task = load_task(spec.task)
    problem = inheriting(problem_of(spec, task), spec, files)
    settings = replace(settings_of(spec, files), checkpoint=None)
    indices, decide = CHOICES[choice], depth.contested
    row: dict[str, Any] = {"flash": budget.flash, "sram": budget.sram, "seed": spec.seed, "choice": choice}

    def chosen(module: Any, constraints: Any, bounds: Budget, contest: Any) -> list[depth.Removal]:
        row["fixed"] = round(float(depth.fixed_shares(constraints.model(module), bounds).max()), 2)
        if indices is None:
            return decide(module, constraints, bounds, contest)
        every = depth.branches(constraints.trace(module), constraints.frozen)
        return [every[index].removal for index in indices]

    started = time.process_time()
    with patch.object(depth, "contested", chosen):
        outcome = DifferentiablePruning().run(problem, budget, settings, lambda progress: True)
    assert isinstance(outcome, Outcome)
    row["core_s"] = round(time.process_time() - started, 1)
    row["accuracy"] = 100 * int8_accuracy(outcome.model, task.x_test, task.y_test, problem)
    print(json.dumps(row), flush=True)
    return row


def page_of(rows: Sequence[dict[str, Any]]) -> str:
    """The page: a line for each budget."""
    page = PAGE.format(fixed=", ".join(f"{100 * share:.0f} %" for share in sorted({row["fixed"] for row in rows})))
    for budget in BUDGETS:
        mine = [row for row in rows if (row["flash"], row["sram"]) == (budget.flash, budget.sram)]
        cells = []
        for choice in CHOICES:
            scores = [row["accuracy"] for row in mine if row["choice"] == choice]
            cells.append(f"{', '.join(f'{score:.1f}' for score in scores)}: **{mean(scores):.1f}**" if scores else "–")
        seconds = [[row["core_s"] for row in mine if row["choice"] == choice] for choice in ("all kept", "chosen")]
        spent = ", ".join(f"{mean(each):.0f}" if each else "–" for each in seconds)
        page += f"| {budget.flash:,}, {budget.sram:,} | {' | '.join(cells)} | {spent} |\n"
    return page


def main() -> None:
    """Run what is missing, write scores and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage")
    parser.add_argument("files", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="of the page and the scores, without suffix")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scores = options.output.with_suffix(".json")
    rows = json.loads(scores.read_text()) if scores.exists() else []
    store = Store(options.storage)
    trials = [trial.spec for trial in store.trials(store.study(STUDY))]
    specs = [spec for spec in trials if spec.method == "differentiable" and spec.budget == FROM]
    for budget in BUDGETS:
        for choice in CHOICES:
            for spec in specs:
                key = {"flash": budget.flash, "sram": budget.sram, "seed": spec.seed, "choice": choice}
                if not any(key.items() <= row.items() for row in rows):
                    rows.append(run(spec, budget, choice, options.files))
                    scores.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    options.output.with_suffix(".md").write_text(page_of(rows))


if __name__ == "__main__":
    main()
