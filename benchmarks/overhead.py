"""What the differentiable job costs against training the dense network for the same epochs.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py --output docs/results/overhead

The dense training and the jobs at several budgets take turns, one epoch each, so that whatever else the machine does
falls on all of them. Dense is float training only; a job is everything: gates, prices, landing, int8 epochs, export.
The dense job, the same without pruning, is there to tell what int8 epochs and export cost.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcu.budget import RESOURCES, Budget
from mcu.units import format_bytes, format_count
from orchestrator.executors.attempt import keep_freed_memory
from orchestrator.spec import Bounds, TrialSpec
from orchestrator.worker import problem_of
from pruning import gates
from pruning.baselines.dense import DenseNetwork
from pruning.controller import WidthController
from pruning.differentiable import RERANK_EVERY, DifferentiablePruning
from pruning.landing import smallest
from pruning.problem import Outcome, Problem, Settings
from pruning.run import Run
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.tasks import load_task, task_digest

NETWORKS = {
    "resnet8": NetworkChoice(name="resnet8"),
    "vgg-small": NetworkChoice(name="vgg-small"),
    "mobilenet-v2 x0.5": NetworkChoice(name="mobilenet-v2", width=0.5),
}
PARTS = (0.9, 0.5, 0.25, 0.1, 0.04)
ROOM = 1.1
"""No bound is below this times what one channel per group takes."""

DENSE, DENSE_JOB = "dense", "dense job"

LIMITS = {"0.25": 0.75, "0.9": 1.0}
"""Largest ratio there should be, by part of the resources; none should be above the last."""

PAGE = """\
# What pruning while training costs

Fashion-MNIST, one core: wall seconds, and their ratio to float training of the dense network for the same epochs, one
epoch at a time in turns. A job is everything: gates, prices, landing, int8 epochs, export. The dense job is that
without pruning, int8 epochs and export of the dense network. A bound is a part of what the dense network takes, but
never below {room} times what one channel per group takes.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py --output docs/results/overhead
"""


@dataclass
class Turns:
    """Lets threads work one at a time, in order; counts the seconds each has worked."""

    names: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0
    _condition: threading.Condition = field(default_factory=threading.Condition)

    def pass_on(self, name: str) -> bool:
        """End a turn, wait for the next, and go on (True)."""
        self._end(name, leave=False)
        self._wait(name)
        return True

    @contextmanager
    def taking_part(self, name: str) -> Iterator[None]:
        """From the first turn to the end of the last."""
        self._wait(name)
        try:
            yield
        finally:
            self._end(name, leave=True)

    def _wait(self, name: str) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self.names[0] == name)
            self._started = time.perf_counter()

    def _end(self, name: str, *, leave: bool) -> None:
        with self._condition:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._started
            self.names.pop(0)
            if not leave:
                self.names.append(name)
            self._condition.notify_all()


def train(problem: Problem, settings: Settings, after_epoch: Callable[[], bool]) -> None:
    """Float training of the dense network."""
    run = Run(problem, Budget(), settings, lambda progress: after_epoch(), DENSE)
    for _ in run.train("training", run.trainer.steps):
        pass


def compare(problem: Problem, epochs: int) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each competitor, and what it used of the budget."""
    run = Run(problem, Budget(), Settings(epochs), lambda progress: True, DENSE)
    reference, floor = run.dense, smallest(run.model)
    names = [DENSE, DENSE_JOB, *(f"{part:g}" for part in PARTS)]
    turns, notes = Turns(list(names)), {}

    def train_dense() -> None:
        with turns.taking_part(DENSE):
            train(problem, Settings(epochs, hyperparameters={"int8_part": 0.0}), lambda: turns.pass_on(DENSE))

    def train_and_export() -> None:
        with turns.taking_part(DENSE_JOB):
            DenseNetwork().run(problem, Budget(), Settings(epochs), lambda progress: turns.pass_on(DENSE_JOB))

    def prune(name: str) -> None:
        part = float(name)
        bounds = {n: int(max(part * getattr(reference, n), ROOM * getattr(floor, n))) for n in RESOURCES}
        budget = Budget(**bounds)
        with turns.taking_part(name):
            answer = DifferentiablePruning().run(
                problem, budget, Settings(epochs), lambda progress: turns.pass_on(name)
            )
        assert isinstance(answer, Outcome)
        used = problem.runtime.measure(answer.model, answer.data)
        notes[name] = f"{format_bytes(used.flash)}, {format_bytes(used.sram)}, {format_count(used.macs)}"

    threads = [threading.Thread(target=train_dense), threading.Thread(target=train_and_export)]
    threads += [threading.Thread(target=prune, args=(name,)) for name in names[2:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return turns.seconds, notes


def control_share(problem: Problem, steps: int = 40) -> float:
    """Part of a step that gates, importances and prices take, with every channel still there.

    Steps of a plain network and of a gated one under its controller take turns.
    """
    plain = Run(problem, Budget(), Settings(), lambda progress: True, DENSE)
    run = Run(problem, Budget(), Settings(), lambda progress: True, "gated")
    half = Budget(*(max(1, value // 2) for value in run.dense))
    bank = gates.attach(run.module, run.graph)
    controller = WidthController(run.model, half, bank, steps)

    def controlled() -> None:
        next(gated_steps)
        bank.learn_importance()
        controller.update()
        if controller.step % RERANK_EVERY == 0:
            bank.rerank()

    plain_steps = plain.trainer.run(plain.trainer.steps)
    gated_steps = run.trainer.run(run.trainer.steps, controller.open_gates)
    seconds: list[tuple[float, float]] = []
    for _ in range(steps):
        times = [time.perf_counter()]
        next(plain_steps)
        times.append(time.perf_counter())
        controlled()
        times.append(time.perf_counter())
        seconds.append((times[1] - times[0], times[2] - times[1]))
    plainly, gated = np.median(np.array(seconds[5:]), 0)
    return float(1 - plainly / gated)


def main() -> None:
    """Compare on every network, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=15_000)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--output", type=Path, help="keeps figures in OUTPUT.json, and writes OUTPUT.md from all there")
    parser.add_argument("--control-only", action="store_true", help="measure the control's part of a step alone")
    parser.add_argument("--report-only", action="store_true", help="write OUTPUT.md from OUTPUT.json, run nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    store = chosen.output.with_suffix(".json") if chosen.output else None
    found = json.loads(store.read_text()) if store and store.exists() else {}
    for name in [] if chosen.report_only else chosen.networks:
        problem = problem_on(NETWORKS[name], chosen.images, chosen.epochs)
        if chosen.control_only:
            found[name]["control"] = control_share(problem)
        else:
            found[name] = measured(problem, chosen.images, chosen.epochs)
        if store:
            store.write_text(json.dumps(found, indent=1) + "\n")
    page = table(found)
    print(page)
    if chosen.output:
        chosen.output.with_suffix(".md").write_text(page)


def problem_on(network: NetworkChoice, images: int, epochs: int) -> Problem:
    """Fashion-MNIST for one network."""
    choice = TaskChoice(name="fashion-mnist", options={"train_limit": images, "val_limit": 500})
    task = load_task(choice)
    spec = TrialSpec(
        task=choice, data=task_digest(choice), network=network, method="differentiable", budget=Bounds(), seed=0,
        training=TrainingChoice(epochs=epochs, device="cpu"),
    )  # fmt: skip
    return problem_of(spec, task)


def measured(problem: Problem, images: int, epochs: int) -> dict[str, Any]:
    """All competitors on one network."""
    share = control_share(problem)
    seconds, used = compare(problem, epochs)
    return {"images": images, "epochs": epochs, "control": share, "seconds": seconds, "used": used}


def table(found: dict[str, dict[str, Any]]) -> str:
    """The page."""
    lines = [
        PAGE.format(room=ROOM),
        "| network | images, epochs | part of dense flash, SRAM and MACs | seconds | ratio | used |",
        "|---|---|---|---|---|---|",
    ]
    for network, row in found.items():
        for name, value in row["seconds"].items():
            start = f"| {network} | {row['images']:,}, {row['epochs']} | {name} | {value:.1f} |"
            lines.append(f"{start} {value / row['seconds'][DENSE]:.2f} | {row['used'].get(name, '')} |")
    lines.append("")
    for part, limit in LIMITS.items():
        ratios = {network: row["seconds"][part] / row["seconds"][DENSE] for network, row in found.items()}
        each = [f"{network} {value:.3f} {'holds' if value <= limit else 'misses'}" for network, value in ratios.items()]
        lines.append(f"- At {part} of the resources at most {limit}: {', '.join(each)}.")
    shares = ", ".join(f"{network} {100 * row['control']:.1f} %" for network, row in found.items())
    lines += ["", f"Part of a step for gates, importances and prices (median of 35 steps): {shares}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
