"""How far a network can shrink: int8 accuracy on Fashion-MNIST from 2 to 200 times less of a resource than dense.

    OMP_NUM_THREADS=1 python benchmarks/pruning/compression.py FOLDER --output docs/results/pruning/compression
    ... --report-only                                            the page of the jobs that are through

Dense network and pruned ones train for the same epochs on the same images; the dense one is quantised, too. One
resource is bounded at a time. Every seed gets the dense network and the claimed point, the first seed the whole curve.
Of several lengths of training, the first is for the curve; the others are for the claimed point alone.
Jobs that are in FOLDER or in OUTPUT.json already are not run again, one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from mcu.budget import RESOURCES, Budget
from mcu.units import format_bytes
from orchestrator.executors.attempt import keep_freed_memory
from orchestrator.spec import TrialSpec
from orchestrator.worker.trial import problem_of
from pruning.differentiable import DifferentiablePruning
from pruning.engine.landing import UnreachableBudgetError
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Outcome, Progress, Settings
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.tasks import load_task, task_digest

NETWORKS = ("vgg-small", "mobilenet-v2")
FACTORS = (1, 80, 200, 20, 40, 120, 10, 5, 2)
"""1 is the dense network; the claim's own point comes next."""

ALLOWED_LOSS = 1.0
CLAIMED = 80
MARKERS = "o*Ds"

PAGE = """\
# How far a network shrinks

Fashion-MNIST, {images} training images; a job and the dense network it is compared with train for the same epochs,
from scratch. One resource is bounded at a time. Both are exported to int8; accuracy is that of the 10,000 test images.
Loss is the difference to the dense int8 network of the same seed and epochs, in points. The last column is the core
time of one job, export included. Jobs through: {done} of {all}.

    OMP_NUM_THREADS=1 python benchmarks/pruning/compression.py FOLDER {command}
"""


@dataclass(frozen=True)
class Job:
    """One point of a curve; factor 1 is the dense network, with no resource bounded."""

    network: str
    resource: str
    factor: float
    seed: int
    epochs: int
    images: int | None


def stored(job: Job, folder: Path) -> dict[str, Any]:
    """What came of a job; empty if it is not through."""
    path = _place(job, folder).with_suffix(".json")
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _place(job: Job, folder: Path) -> Path:
    return folder / f"{job.network}-{job.resource}-{job.factor:g}-{job.seed}-{job.epochs}-{job.images or 'all'}"


def take_over(rows: list[dict[str, Any]], folder: Path) -> None:
    """Jobs that were run in another folder, from what was written of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        path = _place(Job(**{field.name: row[field.name] for field in fields(Job)}), folder).with_suffix(".json")
        if not path.exists():
            path.write_text(json.dumps(row))


def run(job: Job, folder: Path, dense: dict[str, Any]) -> dict[str, Any]:
    """Run a job, or read what came of it; ``dense`` is the row of the dense network, empty for itself."""
    if row := stored(job, folder):
        return row
    target = _place(job, folder)
    target.mkdir(parents=True, exist_ok=True)
    choice = TaskChoice(name="fashion-mnist", options={"train_limit": job.images} if job.images else {})
    task = load_task(choice)
    spec = TrialSpec(
        task=choice, data=task_digest(choice), network=NetworkChoice(name=job.network), method="differentiable",
        budget=Budget(), seed=job.seed, training=TrainingChoice(epochs=job.epochs, device="cpu"),
    )  # fmt: skip
    problem = problem_of(spec, task)
    bounds: dict[str, Any] = {job.resource: int(dense[job.resource] / job.factor)} if dense else {}
    budget = Budget(**bounds)
    started, clock = time.process_time(), target / "core_seconds"
    spent = float(clock.read_text()) if clock.exists() else 0.0

    def report(progress: Progress) -> bool:
        clock.write_text(str(spent + time.process_time() - started))
        at = f"epoch {progress.epochs_done:g} {progress.phase} {100 * progress.val_accuracy:.2f} %"
        print(job, at, progress.resources, flush=True)
        return True

    row = asdict(job)
    try:
        settings = Settings(job.epochs, 128, job.seed, checkpoint=target)
        outcome = DifferentiablePruning().run(problem, budget, settings, report)
        assert isinstance(outcome, Outcome)
        used = problem.runtime.measure(outcome.model, outcome.data)
        row |= {name: getattr(used, name) for name in RESOURCES}
        row["accuracy"] = int8_accuracy(outcome.model, task.x_test, task.y_test, problem)
        row["widths"] = outcome.widths
    except UnreachableBudgetError as error:
        row["refused"] = str(error)
    row["core_seconds"] = spent + time.process_time() - started
    target.with_suffix(".json").write_text(json.dumps(row))
    print(row, flush=True)
    return row


def plan(chosen: argparse.Namespace) -> Iterator[tuple[Job, list[Job]]]:
    """The dense network of every network, length of training and seed, and the pruned points to compare with it."""
    for network, epochs, seed in itertools.product(chosen.networks, chosen.epochs, chosen.seeds):
        curve = seed == chosen.seeds[0] and epochs == chosen.epochs[0]
        factors = [factor for factor in chosen.factors if factor > 1] if curve else [CLAIMED]
        bounds = itertools.product(chosen.resources, factors)
        same = seed, epochs, chosen.images
        yield Job(network, "none", 1, *same), [Job(network, resource, factor, *same) for resource, factor in bounds]


Curve = tuple[str, int, str, dict[int, dict[str, Any]], list[dict[str, Any]]]


def curves(rows: list[dict[str, Any]]) -> Iterator[Curve]:
    """Network, epochs, bounded resource, dense row of each seed, and the pruned rows, one curve after the other."""
    for network, epochs in dict.fromkeys((row["network"], row["epochs"]) for row in rows):
        mine = [row for row in rows if (row["network"], row["epochs"]) == (network, epochs)]
        dense = {row["seed"]: row for row in mine if row["factor"] == 1}
        for resource in dict.fromkeys(row["resource"] for row in mine if row["factor"] > 1):
            yield network, epochs, resource, dense, [row for row in mine if row["resource"] == resource]


def table(rows: list[dict[str, Any]]) -> str:
    """Every point with mean and spread over seeds, and whether the claim holds."""
    lines = [
        "| network | epochs | bounded | less of it | seeds | int8 test | loss | flash | SRAM | MACs | core min |",
        "|---|" + "---|" * 10,
    ]
    claims = []
    for network, epochs, resource, dense, pruned in curves(rows):
        time_of = {seed: row["core_seconds"] for seed, row in dense.items()}
        points = {1.0: list(dense.values())}
        for row in sorted(pruned, key=lambda row: row["factor"]):
            points.setdefault(row["factor"], []).append(row)
        for factor, same in points.items():
            begin = f"| {network} | {epochs} | {resource if factor > 1 else 'none'} |"
            if refusal := same[0].get("refused"):
                lines.append(f"{begin} {factor:g}x | {len(same)} | {refusal} | | | | | |")
                continue
            scores = 100 * np.array([row["accuracy"] for row in same])
            losses = 100 * np.array([dense[row["seed"]]["accuracy"] - row["accuracy"] for row in same])
            spread = f" ± {scores.std(ddof=1):.2f}" if len(scores) > 1 else ""
            reached = f"{scores.mean():.2f}{spread} % | {losses.mean():+.2f}"
            used = {name: int(np.mean([row[name] for row in same])) for name in RESOURCES}
            less = np.mean([row[resource] for row in dense.values()]) / used[resource]
            minutes = np.mean([row["core_seconds"] for row in same]) / 60
            lines.append(
                f"{begin} {less:.1f}x | {len(same)} | {reached} | "
                f"{format_bytes(used['flash'])} | {format_bytes(used['sram'])} | {used['macs']:,} | {minutes:.0f} |"
            )
            if factor == CLAIMED:
                holds = "holds" if losses.mean() <= ALLOWED_LOSS else "does not hold"
                share = np.mean([row["core_seconds"] / time_of[row["seed"]] for row in same])
                claims.append(
                    f"- {network}, {epochs} epochs, seeds: {len(same)}. {CLAIMED}x less {resource} within "
                    f"{ALLOWED_LOSS} points, in {share:.2f} of the dense network's core time: {holds}"
                )
    return "\n".join([*lines, "", *claims]) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Points lost against the factor, every seed a point; a line through the means of a curve.

    A network has one colour, a length of training one marker.
    """
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    colours: dict[str, int] = {}
    markers: dict[int, int] = {}
    for network, epochs, resource, dense, pruned in curves(rows):
        whole = np.mean([row[resource] for row in dense.values()])
        points = [(whole / row[resource], row) for row in pruned if "accuracy" in row]
        lost = [100 * (row["accuracy"] - dense[row["seed"]]["accuracy"]) for _, row in points]
        colour = f"C{colours.setdefault(network, len(colours))}"
        marker = MARKERS[markers.setdefault(epochs, len(markers)) % len(MARKERS)]
        label = f"{network}, {resource}, {epochs} epochs"
        axes.scatter([x for x, _ in points], lost, s=22, c=colour, marker=marker, alpha=0.8, label=label)
        factors = np.array([row["factor"] for _, row in points])
        ordered = np.unique(factors)
        if len(ordered) > 1:
            x = [np.mean([points[i][0] for i in np.flatnonzero(factors == factor)]) for factor in ordered]
            y = [np.mean(np.array(lost)[factors == factor]) for factor in ordered]
            axes.plot([1.0, *x], [0.0, *y], color=colour)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axhline(-ALLOWED_LOSS, color="grey", linestyle=":", linewidth=1)
    axes.axvline(CLAIMED, color="grey", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 40, 80, 200], [f"{f}x" for f in (1, 2, 5, 10, 20, 40, 80, 200)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("times less of the resource than the dense int8 network")
    axes.set_ylabel("int8 test accuracy less the dense one's, points")
    axes.set_title(f"Fashion-MNIST; dotted: {ALLOWED_LOSS:g} point at {CLAIMED}x", fontsize=10)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=160)
    plt.close(figure)


def main() -> None:
    """Run what is missing, write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--resources", nargs="+", default=["flash"], choices=RESOURCES)
    parser.add_argument("--factors", nargs="+", type=float, default=list(FACTORS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", nargs="+", type=int, default=[30, 60])
    parser.add_argument("--images", type=int, help="training images; all by default")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    figures = chosen.output.with_suffix(".json") if chosen.output else None
    if figures and figures.exists():
        take_over(json.loads(figures.read_text()), chosen.folder)
    rows = []
    for whole, jobs in plan(chosen):
        dense = stored(whole, chosen.folder) if chosen.report_only else run(whole, chosen.folder, {})
        if not dense:
            continue
        answers = (stored(job, chosen.folder) if chosen.report_only else run(job, chosen.folder, dense) for job in jobs)
        rows += [dense, *filter(None, answers)]
    print(table(rows))
    if figures:
        images = f"{chosen.images:,}" if chosen.images else "all"
        given = " ".join(argument for argument in sys.argv[2:] if argument != "--report-only")
        jobs_in_all = sum(1 + len(jobs) for _, jobs in plan(chosen))
        page = PAGE.format(images=images, command=given, done=len(rows), all=jobs_in_all)
        figure = f"![]({chosen.output.name}.png)"
        chosen.output.with_suffix(".md").write_text(f"{page}\n{table(rows)}\n{figure}\n")
        figures.write_text(json.dumps(rows, indent=1) + "\n")
        draw(rows, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
