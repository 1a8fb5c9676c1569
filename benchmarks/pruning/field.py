"""The field's own data at published points: CIFAR-10 and Speech Commands, a lineage for each network.

    OMP_NUM_THREADS=1 python benchmarks/pruning/field.py cifar10 IMAGES FOLDER --output docs/results/pruning/cifar10
    OMP_NUM_THREADS=1 python benchmarks/pruning/field.py speech CLIPS FOLDER --output docs/results/pruning/speech

IMAGES and CLIPS are folders as the tasks ``image-folder`` and ``audio-folder`` read them. FOLDER keeps checkpoints and
networks: a trial that was interrupted goes on from its last epoch, finished ones are rows beside the page and are not
run again. ``--images``, ``--epochs``, ``--seeds``, ``--lines`` and ``--methods`` scale it down; rows say their scale.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mcu_search import LiveBytes

from mcu.budget import RESOURCES, Budget, Resources
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import check_against_interpreter, measure_model
from orchestrator.executors.attempt import keep_freed_memory
from orchestrator.planning.planned_trial import PlannedTrial, Trained
from orchestrator.planning.preflight import plan_of, reaches_of
from orchestrator.running.queue import Queue
from orchestrator.spec import FILES, NETWORK, TrialSpec
from orchestrator.worker.trial import inheriting, problem_of, settings_of
from pruning.methods import method
from pruning.training.evaluation import int8_inputs
from pruning.training.problem import Outcome
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task, load_task

CHECKED = 16
"""Test samples on which the int8 model is compared with the interpreter, bit by bit."""

SCALE = ("line", "budget", "method", "seed", "images", "epochs")
"""What a row is about: a later measurement of the same replaces it."""

METHODS = ("differentiable", "uniform", "l1")
TEACHING = {"distillation": 0.7}


@dataclass(frozen=True)
class Point:
    """A budget, and what others published there.

    Attributes:
        published: accuracy in percent and whose, with its counting.
        counted: whether the bounds are in the counting of architecture searches: constants without container, live
            activations without the input.
    """

    budget: Budget
    published: str = ""
    counted: bool = False


@dataclass(frozen=True)
class Line:
    """A network and the budgets of its lineage, largest first."""

    network: str
    points: dict[str, Point]
    width: float = 1.0
    dense: str = ""


@dataclass(frozen=True)
class Page:
    """The task of a page, its networks, and what its data are."""

    title: str
    task: str
    options: dict[str, Any]
    lines: dict[str, Line]
    about: str
    learning_rate: float = 0.1


UNAS = "uNAS (Liberis et al., arXiv 2010.14246; second-hand figures)"
UNAS_CIFAR = {"uNAS's": Point(Budget(11_400, 15_400, 384_000), f"86.49: {UNAS}, 1 byte a weight", counted=True)}
PAGES = {
    "cifar10": Page(
        "CIFAR-10",
        "image-folder",
        {},
        {
            "resnet8 x2": Line(
                "resnet8",
                {
                    "256 KB": Point(Budget(flash=256 * 1024), "91.98: Liberis & Lane, IMWUT 2022, their network"),
                    "128 KB": Point(Budget(flash=128 * 1024)),
                },
                width=2.0,
            ),
            "resnet8": Line(
                "resnet8",
                {
                    "64 KB": Point(Budget(flash=64 * 1024)),
                    "32 KB": Point(Budget(flash=32 * 1024)),
                    **UNAS_CIFAR,
                },
                dense="85.6: ST model zoo, int8; 85: floor of MLPerf Tiny (arXiv 2106.07597)",
            ),
            "micro-cnn x3": Line("micro-cnn", UNAS_CIFAR, width=3.0),
            "ds-resnet x2": Line("ds-resnet", {"32 KB": Point(Budget(flash=32 * 1024)), **UNAS_CIFAR}, width=2.0),
        },
        "A JPEG copy of quality 75 of all 60,000 images in the official split: lossy (30.5 dB), what that costs is not "
        "known, so no figure here is one of CIFAR-10 itself. 15 % of the training images validate. The job of resnet8 "
        "with 60 epochs at uNAS's point is of commit d85f448 and has half the resolution; it began with the dense "
        "network. The dense ds-resnet is of c11dae0, its jobs of ce0e95f; its structure was [chosen among "
        "ten](structures/cifar10.md). Straight from the dense network its job at uNAS's point ended at 77.55 % "
        "(c11dae0).",
    ),
    "speech": Page(
        "Speech Commands, 8 words",
        "audio-folder",
        {},
        {
            "ds-cnn-m": Line(
                "ds-cnn-m",
                {
                    "115 KB": Point(Budget(flash=115_000), "96.03 (v2, 12 classes): Liberis & Lane, IMWUT 2022"),
                    "64 KB": Point(Budget(flash=64 * 1024)),
                    "uNAS's": Point(Budget(37_000, 21_100, 1_100_000), f"95.58 (v2, 12 classes): {UNAS}", counted=True),
                    "16 KB": Point(Budget(flash=16 * 1024, sram=21_000)),
                    "8 KB of SRAM": Point(Budget(flash=16 * 1024, sram=8 * 1024)),
                },
            ),
            "tc-resnet8": Line(
                "tc-resnet8",
                {"37 KB": Point(Budget(flash=37_000, sram=21_100)), "16 KB": Point(Budget(flash=16 * 1024))},
                dense="96.1 (v1, 12 classes, 40 coefficients): Choi et al., arXiv 1904.03814",
            ),
        },
        "5,032 recordings of 8 words of Speech Commands v0.01 by 1,135 speakers; no speaker is in two splits, 70, 15 "
        "and 15 %. No other figure has this data set: published ones are of 12 classes and all recordings.",
    ),
}


def sweep_of(page: Page, line: Line, chosen: argparse.Namespace, seed: int) -> SweepConfig:
    """The sweep of a lineage at one seed."""
    limits = {"train_limit": chosen.images} if chosen.images else {}
    return SweepConfig.model_validate({
        "sweep": {"name": "field", "seed": seed, "trials": len(line.points), "seeds": 1},
        "task": {"name": page.task, "data": ".", "options": page.options | limits},
        "network": {"name": line.network, "width": line.width},
        "budgets": {"list": [{"name": name, **point.budget.bounds()} for name, point in line.points.items()]},
        "methods": {"names": chosen.methods},
        "training": {"epochs": chosen.epochs, "device": "cpu"},
        "hyperparameters": {"learning_rate": page.learning_rate, **TEACHING},
        "lineage": {"enabled": True},
    })  # fmt: skip


def run_line(name: str, page: Page, seed: int, chosen: argparse.Namespace, rows: Rows) -> None:
    """All trials of a lineage, in the order of the driver."""
    line = page.lines[name]
    sweep = sweep_of(page, line, chosen, seed)
    task = load_task(sweep.task)
    plan = plan_of(sweep, reaches_of(sweep, {(): task}))
    queue = Queue(plan.lineage)
    while (number := queue.next()) is not None:
        trial = plan.trials[number]
        spec = plan.spec(trial, {}, queue.start(trial))
        row = rows.of(spec)
        if row is None or not _network(chosen, spec).exists():
            row = run_trial(spec, trial, name, task, page, chosen) | {"seed": seed}
            rows.add(row)
        left = spec.leaves_network and "accuracy" in row
        queue.ended(number, Trained(spec.hash(), spec.budget, Resources(**row["dense"])) if left else None)


def _network(chosen: argparse.Namespace, spec: TrialSpec) -> Path:
    """A file that is there when a trial need not run again: its trained network, or its folder where it leaves none."""
    folder: Path = chosen.folder / spec.hash()
    return folder / FILES[NETWORK] if spec.leaves_network else folder


def run_trial(
    spec: TrialSpec, trial: PlannedTrial, name: str, task: Task, page: Page, chosen: argparse.Namespace
) -> dict[str, Any]:
    """One trial; its row has accuracies, bytes in both countings and core seconds."""
    target: Path = chosen.folder / spec.hash()
    target.mkdir(parents=True, exist_ok=True)
    clock = target / "core_seconds"
    spent, started = (float(clock.read_text()) if clock.exists() else 0.0), time.process_time()
    point = page.lines[name].points.get(trial.budget.label)
    problem = inheriting(problem_of(spec, task), spec, chosen.folder)
    if point is not None and point.counted:
        problem = replace(problem, runtime=LiveBytes())

    def report(_: object) -> bool:
        clock.write_text(str(spent + time.process_time() - started))
        return True

    outcome = method(spec.method).run(problem, spec.budget, settings_of(spec, chosen.folder), report)
    row = {
        "line": name, "budget": trial.budget.label, "method": spec.method,
        "images": len(task.x_train), "epochs": spec.training.epochs,
        "core_s": round(spent + time.process_time() - started, 1), "spec": spec.hash(), "ancestor": spec.ancestor,
    }  # fmt: skip
    if not isinstance(outcome, Outcome):
        return row | {"reason": outcome.reason}
    (target / FILES["model"]).write_bytes(outcome.data)
    reference = ReferenceInterpreter(outcome.model)
    test = int8_inputs(outcome.model, task.x_test, problem)
    check_against_interpreter(outcome.data, reference, (test[:CHECKED],))
    measured, counted = measure_model(outcome.data), LiveBytes().measure(outcome.model, outcome.data)
    validating = int8_inputs(outcome.model, task.x_val, problem)
    row |= {
        "accuracy": float(np.mean(reference.predict(test) == task.y_test)),
        "val_accuracy": float(np.mean(reference.predict(validating) == task.y_val)),
        "flash": measured.flash, "sram": measured.sram, "macs": measured.macs,
        "counted": [counted.flash, counted.sram],
        "within": spec.budget.admits(problem.runtime.measure(outcome.model, outcome.data)),
        "dense": {resource: getattr(outcome.dense, resource) for resource in RESOURCES},
    }  # fmt: skip
    if spec.leaves_network and outcome.trained:
        (target / FILES[NETWORK]).write_bytes(outcome.trained.encode())
    return row


class Rows:
    """The rows beside a page, written as they come."""

    def __init__(self, page: Page, place: Path) -> None:
        self._page, self._place = page, place
        stored = place.with_suffix(".json")
        self.rows: list[dict[str, Any]] = json.loads(stored.read_text()) if stored.exists() else []

    def of(self, spec: TrialSpec) -> dict[str, Any] | None:
        """The row of a trial, if it was run."""
        return next((row for row in self.rows if row["spec"] == spec.hash()), None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, in place of an earlier one of the same trial."""
        self.rows = [other for other in self.rows if any(other[name] != row[name] for name in SCALE)] + [row]
        print(json.dumps(row), flush=True)
        self.write()

    def write(self) -> None:
        """Scores and page."""
        self._place.with_suffix(".json").write_text("[\n" + ",\n".join(map(json.dumps, self.rows)) + "\n]\n")
        self._place.with_suffix(".md").write_text(text_of(self._page, self.rows))


def text_of(page: Page, rows: list[dict[str, Any]]) -> str:
    """The page: a table for each network, an honest cell for whatever has not run."""
    hours = sum(row["core_s"] for row in rows) / 3600
    parts = [
        f"# {page.title} at published points\n\n{page.about}\n\nint8 test accuracy in percent; flash is the .tflite "
        "file, SRAM the arena that TensorFlow Lite Micro took, `counted` the bytes of weights, biases and scales and "
        "of live activations without the input, as architecture searches count. A dense network is trained for twice "
        "the epochs of a job. Every job of `differentiable` and `l1` begins with the network of the next larger "
        "budget, every job of `uniform` from scratch; all are taught by the dense one. Figures of others are theirs, "
        f"on their data and counting. Core time of all rows: {hours:.2f} h.\n\n"
        "    OMP_NUM_THREADS=1 python benchmarks/pruning/field.py PAGE DATA FOLDER --output PLACE\n"
    ]
    for name, line in page.lines.items():
        parts.append(
            f"\n## {name}\n\n| budget | method | int8 test | flash | SRAM | MACs | counted flash, SRAM | images, "
            "epochs, seeds | core min | published |\n|---|---|---:|---:|---:|---:|---:|---|---:|---|"
        )
        parts.append(_cells(rows, name, "dense parent", "dense-ptq", line.dense))
        for budget, point in line.points.items():
            label = f"{budget} ({_bounds(point)})"
            parts += [_cells(rows, name, budget, by, point.published, label) for by in METHODS]
    return "\n".join(parts) + "\n"


def _bounds(point: Point) -> str:
    shown = {"flash": "B of flash", "sram": "B of SRAM", "macs": "MACs"}
    told = ", ".join(f"{value:,} {shown[name]}" for name, value in point.budget.bounds().items())
    return told + (", counted" if point.counted else "")


def _cells(rows: list[dict[str, Any]], line: str, budget: str, by: str, published: str, label: str = "") -> str:
    """Lines of the table for a method at a budget: one for each scale that ran."""
    mine = [row for row in rows if (row["line"], row["budget"], row["method"]) == (line, budget, by)]
    scales = dict.fromkeys((row["images"], row["epochs"]) for row in mine)
    if not mine:
        return f"| {label or budget} | {by} | not run | | | | | | | {published} |"
    lines = []
    for images, epochs in scales:
        there = [row for row in mine if (row["images"], row["epochs"]) == (images, epochs)]
        done = [row for row in there if "accuracy" in row]
        scale = f"{images:,}, {epochs}, {len(there)}"
        minutes = f"{statistics.mean(row['core_s'] for row in there) / 60:.1f}"
        if not done:
            lines.append(f"| {label or budget} | {by} | cannot: {there[0]['reason']} | | | | | {scale} | {minutes} | |")
            continue
        used = [f"{max(row[name] for row in done):,}" for name in RESOURCES]
        counted = ", ".join(f"{max(row['counted'][at] for row in done):,}" for at in (0, 1))
        beyond = "" if all(row["within"] for row in done) else " (over the budget)"
        accuracy = _spread([100 * row["accuracy"] for row in done]) + beyond
        lines.append(
            f"| {label or budget} | {by} | {accuracy} | {' | '.join(used)} | {counted} | {scale} | {minutes} | "
            f"{published} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    """Run what is missing, write scores and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=list(PAGES))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="of the page and the scores, without suffix")
    parser.add_argument("--images", type=int, default=0, help="training samples; 0 for all")
    parser.add_argument("--epochs", type=int, default=60, help="of a job; the dense network gets twice as many")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lines", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    page = PAGES[chosen.page]
    rows = Rows(page, chosen.output.resolve())
    chosen.folder = chosen.folder.resolve()
    os.chdir(chosen.data)  # so that a specification does not depend on where the data are
    if not chosen.report_only:
        for seed in chosen.seeds:
            for name in chosen.lines or page.lines:
                run_line(name, page, seed, chosen, rows)
    rows.write()


if __name__ == "__main__":
    main()
