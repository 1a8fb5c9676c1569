"""What each part of the differentiable job is worth: the job without it, on the same budgets, epochs and seeds.

    OMP_NUM_THREADS=1 python benchmarks/pruning/ablations.py FOLDER --output docs/results/pruning/ablations
    ... --budgets near --network vgg-small --width 1 --only "as it is" "without settling"

The second command is for budgets near the dense network, where widths settle at multiples.

Jobs that are in FOLDER already are not run again. The output is a page and a figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from mcu.budget import Budget
from orchestrator.spec import TrialSpec
from orchestrator.worker.trial import problem_of
from pruning.baselines.single_resource import DifferentiableWithoutSram
from pruning.differentiable import DifferentiablePruning
from pruning.engine import surgery
from pruning.engine.controller import WidthController
from pruning.engine.gates import GateBank
from pruning.training.evaluation import int8_accuracy
from pruning.training.job import Job
from pruning.training.problem import Outcome, Problem, Settings
from pruning.training.run import Run
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.tasks import load_task, task_digest


class FixedTarget(WidthController):
    """The target is the budget from the first step."""

    def target(self) -> torch.Tensor:
        """The bounds."""
        return self.bounds


class SigmoidGates(WidthController):
    """One trained logit per channel and no ranks: the gates other differentiable pruners use.

    A group's width is the sum of its gates; prices reach a gate through it. Needs a job that does not shrink.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.logits = torch.full((sum(self.bank.sizes),), 3.0, dtype=torch.float64)
        self._gate_pull = torch.zeros_like(self.logits)
        self._sum()

    def _gates(self) -> torch.Tensor:
        return torch.sigmoid(self.logits / self._softness())

    def _softness(self) -> float:
        return 1.0 - 0.8 * min(1.0, self.step / self.steps)

    def _sum(self) -> None:
        widths = torch.zeros(len(self.bank.sizes), dtype=torch.float64)
        widths.index_add_(0, self.bank.group_of, self._gates())
        self.log_widths = torch.log(widths.clamp(min=1.0))

    def open_gates(self) -> None:
        """Set the gates for one training step."""
        self._leaf = self._gates().float().requires_grad_()
        self.bank.set_gates(self._leaf)

    def update(self) -> None:
        """Move every logit by the task's gradient and the prices of its group."""
        if self._leaf.grad is not None:
            self._gate_pull.mul_(0.9).add_(self._leaf.grad.double(), alpha=0.1)
        excess, elasticity = self._excess()
        self.integral = torch.clamp(self.integral + excess, min=0.0)
        stiffness = elasticity.square().sum(1).clamp(min=0.05)
        self.multipliers = torch.clamp(self.gain * (excess + self.integral / 20) / stiffness, min=0.0)
        pull = self._gate_pull / (self._gate_pull.square().mean().sqrt() + 1e-12)
        price = (self.multipliers @ elasticity)[self.bank.group_of]
        self.logits = torch.clamp(self.logits - 4 * self.eta * torch.clamp(pull + price, -4, 4), -6.0, 6.0)
        self.step += 1
        self._sum()


class SigmoidJob(DifferentiablePruning):
    """Plain sigmoid gates; channels with the largest gates stay."""

    controller = SigmoidGates
    shrinking = False

    def rank(self, run: Run, bank: GateBank) -> None:
        """By gate."""
        if bank.values is not None:
            bank.importance = bank.values[:-1].detach().float().clone()
        bank.rerank()


class MagnitudeJob(DifferentiablePruning):
    """Rank gates over channels ordered by the L1 norm of their filters."""

    def rank(self, run: Run, bank: GateBank) -> None:
        """By the summed L1 norm of the filters that write a channel."""
        norms = torch.zeros(len(bank.importance))
        for op in run.network.graph.ops:
            tensor = run.network.graph.tensors[op.output]
            inside = tensor.groups >= 0
            if op.layer and inside.any():
                weight = surgery.layer_of(run.network.module, op.layer).weight.detach().float()
                slots = bank.starts[tensor.groups[inside]] + torch.as_tensor(tensor.members[inside])
                norms.index_add_(0, slots, weight.abs().flatten(1).mean(1)[torch.as_tensor(inside)])
        bank.importance = norms
        bank.rerank()


class AtOnceJob(DifferentiablePruning):
    """No annealing of the target."""

    controller = FixedTarget


class WithoutShrinking(DifferentiablePruning):
    """Channels leave at landing only."""

    shrinking = False


class WithoutGrowth(DifferentiablePruning):
    """Landing cuts, and gives nothing back."""

    growing = False


class WithoutSettling(DifferentiablePruning):
    """Near budgets keep the widths they landed at."""

    settling = False


@dataclass(frozen=True)
class Variant:
    """A job and what its recipe changes."""

    job: type[DifferentiablePruning]
    changes: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    "as it is": Variant(DifferentiablePruning),
    "plain sigmoid gates": Variant(SigmoidJob),
    "ranked by magnitude": Variant(MagnitudeJob),
    "without SRAM term": Variant(DifferentiableWithoutSram),
    "without annealing": Variant(AtOnceJob),
    "without shrinking": Variant(WithoutShrinking),
    "without growth": Variant(WithoutGrowth),
    "without settling": Variant(WithoutSettling),
    "without int8 epochs": Variant(DifferentiablePruning, {"int8_part": 0.0}),
    "with weight averaging": Variant(DifferentiablePruning, {"averaging": 1.0}),
    "with recalibration": Variant(DifferentiablePruning, {"recalibration": True}),
    "from a parent": Variant(DifferentiablePruning, {"parent_epochs": 0.3, "start": "parent"}),
    "distilled": Variant(DifferentiablePruning, {"parent_epochs": 0.3, "distillation": 0.6}),
    "from a parent, distilled": Variant(
        DifferentiablePruning, {"parent_epochs": 0.3, "start": "parent", "distillation": 0.6}
    ),
}
"""``parent_epochs`` here is a part of all epochs: the parent is paid for by the job."""

ON_NEAR_BUDGETS_ALONE = ("without settling",)

FAR = {
    "10 KB, 9 KB, 400 k": Budget(10 * 1024, 9 * 1024, 400_000),
    "20 KB, 14 KB, 1.2 M": Budget(20 * 1024, 14 * 1024, 1_200_000),
}
NEAR = {"nine tenths": 0.9, "three quarters": 0.75}
"""Budgets by what each resource may be of the dense network's."""


def budget_of(bounds: str, problem: Problem) -> Budget:
    """The budget of a label."""
    if bounds in FAR:
        return FAR[bounds]
    dense = Job(problem, Budget(), Settings(), lambda progress: True, "dense").network.dense
    return Budget(*(int(NEAR[bounds] * value) for value in dense))


def _place(label: str, bounds: str, seed: int, folder: Path) -> Path:
    return folder / f"{label}-{bounds}-{seed}.json".replace(" ", "_").replace(",", "")


def run(label: str, bounds: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """One job, or its stored figures."""
    target = _place(label, bounds, seed, chosen.folder)
    if target.exists():
        return dict(json.loads(target.read_text()))
    choice = TaskChoice(name=chosen.task, options={"train_limit": chosen.images} if chosen.images else {})
    task = load_task(choice)
    spec = TrialSpec(
        task=choice, network=NetworkChoice(name=chosen.network, width=chosen.width), method="differentiable",
        budget=Budget(), seed=seed, training=TrainingChoice(epochs=chosen.epochs, device="cpu", batch_size=64),
        data=task_digest(choice),
    )  # fmt: skip
    problem, variant = problem_of(spec, task), VARIANTS[label]
    changes = dict(variant.changes)
    if "parent_epochs" in changes:
        changes["parent_epochs"] = round(changes["parent_epochs"] * chosen.epochs)
    started = time.process_time()
    settings = Settings(chosen.epochs, 64, seed, hyperparameters=changes)
    budget = budget_of(bounds, problem)
    outcome = variant.job().run(problem, budget, settings, lambda progress: True)
    seconds = time.process_time() - started
    assert isinstance(outcome, Outcome)
    used = problem.runtime.measure(outcome.model, outcome.data)
    row = {
        "variant": label, "bounds": bounds, "seed": seed, "seconds": seconds,
        "accuracy": int8_accuracy(outcome.model, task.x_test, task.y_test, problem),
        "binding_use": budget.binding_use(used),
    }  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row))
    print(row, flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds per variant and budget, with the paired difference to the job as it is."""
    budgets = dict.fromkeys(row["bounds"] for row in rows)
    lines = [
        "| job | seeds | "
        + " | ".join(f"{bounds}: int8 test | difference | bound used" for bounds in budgets)
        + " | time |",
        "|---|---|" + "---|---|---|" * len(budgets) + "---|",
    ]
    full = [row for row in rows if row["variant"] == "as it is"]
    for label in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == label]
        cells = [part for bounds in budgets for part in _cells(mine, full, bounds)]
        done = {(row["bounds"], row["seed"]) for row in mine}
        same = [row["seconds"] for row in full if (row["bounds"], row["seed"]) in done]
        ratio = statistics.mean(row["seconds"] for row in mine) / statistics.mean(same)
        seeds = len({row["seed"] for row in mine})
        lines.append(f"| {label} | {seeds} | " + " | ".join(cells) + f" | {ratio:.2f} x |")
    return "\n".join(lines) + "\n"


PAGE = """\
# Ablations: what each part of the job is worth

{task}, {images} training images, {network}, {epochs} epochs: mean and standard deviation over the seeds, differences
paired by seed. "Bound used" is the least share of the tightest bound over the seeds; time is CPU time against the job
as it is, everything counted (parents, too).

    OMP_NUM_THREADS=1 python benchmarks/pruning/ablations.py FOLDER {command}
"""


def _cells(mine: list[dict[str, Any]], full: list[dict[str, Any]], bounds: str) -> tuple[str, str, str]:
    scores, base = ({r["seed"]: 100 * r["accuracy"] for r in rows if r["bounds"] == bounds} for rows in (mine, full))
    if not scores:
        return "", "", ""
    differences = np.array([scores[seed] - base[seed] for seed in scores if seed in base])
    used = min(row["binding_use"] for row in mine if row["bounds"] == bounds)
    return (
        f"{_mean_and_spread(np.array(list(scores.values())))} %",
        _mean_and_spread(differences, "+.2f"),
        f"{100 * used:.1f} %",
    )


def _mean_and_spread(values: np.ndarray, form: str = ".2f") -> str:
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{spread}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Paired differences to the job as it is: every seed a point, the mean a line, a panel per budget."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    base = {(row["bounds"], row["seed"]): row["accuracy"] for row in rows if row["variant"] == "as it is"}
    labels = [label for label in dict.fromkeys(row["variant"] for row in rows) if label != "as it is"]
    budgets = dict.fromkeys(row["bounds"] for row in rows)
    figure, panels = plt.subplots(
        1, len(budgets), figsize=(9.0, 0.6 + 0.3 * len(labels)), sharex=True, sharey=True, layout="constrained"
    )
    for axes, bounds in zip(panels, budgets, strict=True):
        for place, label in enumerate(labels):
            mine = [row for row in rows if row["variant"] == label and row["bounds"] == bounds]
            changes = [100 * (row["accuracy"] - base[bounds, row["seed"]]) for row in mine]
            axes.scatter(changes, [place] * len(changes), s=16, color="tab:blue", alpha=0.7, linewidths=0)
            axes.plot([np.mean(changes)] * 2, [place - 0.3, place + 0.3], color="tab:blue", linewidth=2)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_title(bounds, fontsize=10)
        axes.set_xlabel("int8 test accuracy, points against the job as it is")
        axes.grid(axis="x", linewidth=0.4)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=160)
    plt.close(figure)


def main() -> None:
    """Run what is missing, write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=6_000, help="training images; 0 is all")
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--width", type=float, default=0.75)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", default="far", choices=["far", "near"])
    parser.add_argument(
        "--only",
        nargs="*",
        default=[name for name in VARIANTS if name not in ON_NEAR_BUDGETS_ALONE],
        choices=list(VARIANTS),
    )
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    jobs = list(itertools.product(chosen.only, FAR if chosen.budgets == "far" else NEAR))
    plan = [(label, bounds, seed) for seed in chosen.seeds for label, bounds in jobs]
    if chosen.report_only:
        plan = [job for job in plan if _place(*job, chosen.folder).exists()]
    rows = [run(*job, chosen) for job in plan]
    print(table(rows))
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        network = f"{chosen.network} x{chosen.width:g}"
        page = PAGE.format(
            task=chosen.task, images=f"{chosen.images:,}" if chosen.images else "all", network=network,
            epochs=chosen.epochs, command=shlex.join(word for word in sys.argv[2:] if word != "--report-only"),
        )  # fmt: skip
        chosen.output.with_suffix(".md").write_text(f"{page}\n{table(rows)}\n![]({chosen.output.name}.png)\n")
        draw(rows, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
