"""What the differentiable job costs against training the dense network for the same epochs.

    OMP_NUM_THREADS=1 python benchmarks/pruning/overhead.py --output docs/results/pruning/overhead

The dense training and the jobs at several budgets are processes of their own, as in a sweep, and take turns of two
seconds: all others are halted meanwhile, so whatever else the machine does falls on all of them alike. Dense is float
training only; a job is everything: gates, prices, landing, int8 epochs, export. The dense job, the same without
pruning, is there to tell what int8 epochs and export cost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcu.budget import Budget
from mcu.units import format_bytes, format_count
from orchestrator.executors.attempt import keep_freed_memory
from orchestrator.spec import TrialSpec
from orchestrator.worker.trial import problem_of
from pruning.baselines.dense import DenseNetwork
from pruning.differentiable import RERANK_EVERY, DifferentiablePruning
from pruning.engine import gates
from pruning.engine.controller import WidthController
from pruning.engine.landing import smallest
from pruning.training.job import Job
from pruning.training.problem import Outcome, Problem, Progress, Settings
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.tasks import load_task, task_digest

NETWORKS = {
    "resnet8": NetworkChoice(name="resnet8"),
    "vgg-small": NetworkChoice(name="vgg-small"),
    "mobilenet-v2 x0.5": NetworkChoice(name="mobilenet-v2", width=0.5),
}
PARTS = (0.9, 0.5, 0.25, 0.1)
TURN = 2.0
"""Seconds: short beside whatever else a machine does, long beside a switch from one process to another."""

ROOM = 1.1
"""No bound is below this times what one channel per group takes."""

DENSE, DENSE_JOB = "dense", "dense job"

LIMITS = {"0.25": 0.75, "0.9": 1.0}
"""Largest ratio there should be, by part of the resources; none should be above the last."""

PAGE = """\
# What pruning while training costs

Fashion-MNIST, one core: wall seconds, and their ratio to float training of the dense network for the same epochs. Each
row is a process of its own, as in a sweep; they take turns of {turn:g} seconds. A job is everything: gates, prices,
landing, int8 epochs, export. The dense job is that without pruning, int8 epochs and export of the dense network. A
bound is a part of what the dense network takes, but never below {room} times what one channel per group takes.

    OMP_NUM_THREADS=1 python benchmarks/pruning/overhead.py --output docs/results/pruning/overhead
"""


@dataclass(frozen=True)
class Setup:
    """What one competitor does: ``name`` is ``DENSE``, ``DENSE_JOB`` or a part of the resources, with its budget."""

    name: str
    network: str
    images: int
    epochs: int
    budget: Budget = field(default_factory=Budget)


class Competitor:
    """A job in a process of its own, as in a sweep, that is halted while others work.

    Attributes:
        seconds: wall time it has worked, until its model was there.
        by_epoch: CPU time of every epoch and of what comes after the last, once it is through.
        used: what the model uses, once it is there.
    """

    def __init__(self, job: Setup) -> None:
        self.job = job
        self.seconds = 0.0
        self.by_epoch: list[float] = []
        self.used = ""
        context = get_context("spawn")
        self._answers, theirs = context.Pipe()
        self._process = context.Process(target=compete, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    def load(self) -> None:
        """Let it load its data, then halt it."""
        self._answers.recv()
        self._signal(signal.SIGSTOP)

    def work(self, seconds: float) -> bool:
        """Let it work for so long; whether it has more to do."""
        self._signal(signal.SIGCONT)
        started = time.perf_counter()
        through = self._answers.poll(seconds)
        if not through:
            self._signal(signal.SIGSTOP)
        self.seconds += time.perf_counter() - started
        if through:
            self.by_epoch, self.used = self._answers.recv(), self._answers.recv()
            self._process.join()
        return not through

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def compete(answers: Connection, job: Setup) -> None:
    """The competitor's process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    problem = problem_on(NETWORKS[job.network], job.images, job.epochs)
    answers.send(None)
    clock = [time.process_time()]

    def report(progress: Progress) -> bool:
        clock.append(time.process_time())
        return True

    outcome = None
    if job.name == DENSE:
        plain = Job(problem, Budget(), Settings(job.epochs, hyperparameters={"int8_part": 0.0}), report, DENSE)
        plain.drive(plain.train("training", plain.steps))
    else:
        method = DenseNetwork() if job.name == DENSE_JOB else DifferentiablePruning()
        outcome = method.run(problem, job.budget, Settings(job.epochs), report)
    clock.append(time.process_time())
    answers.send(np.diff(clock).tolist())
    answers.send(_used(outcome, problem) if isinstance(outcome, Outcome) else "")


def _used(outcome: Outcome, problem: Problem) -> str:
    used = problem.runtime.measure(outcome.model, outcome.data)
    return f"{format_bytes(used.flash)}, {format_bytes(used.sram)}, {format_count(used.macs)}"


def compare(network: str, images: int, epochs: int, parts: Sequence[float]) -> list[Competitor]:
    """Every competitor, when all are through."""
    whole = Job(problem_on(NETWORKS[network], 128, 1), Budget(), Settings(1), lambda progress: True, DENSE).network
    floor = smallest(whole.model)
    jobs = [Setup(DENSE, network, images, epochs), Setup(DENSE_JOB, network, images, epochs)]
    for part in parts:
        bounds = [
            int(max(part * full, ROOM * least))
            for full, least in zip(astuple(whole.dense), astuple(floor), strict=True)
        ]
        jobs.append(Setup(f"{part:g}", network, images, epochs, Budget(*bounds)))
    competitors = [Competitor(job) for job in jobs]
    for competitor in competitors:
        competitor.load()
    waiting = competitors
    while waiting:
        waiting = [competitor for competitor in waiting if competitor.work(TURN)]
    return competitors


def control_share(problem: Problem, steps: int = 40) -> float:
    """Part of a step that gates, importances and prices take, with every channel still there.

    Steps of a plain network and of a gated one under its controller take turns; CPU time.
    """
    plain = Job(problem, Budget(), Settings(), lambda progress: True, DENSE)
    gated = Job(problem, Budget(), Settings(), lambda progress: True, "gated")
    network = gated.network
    half = Budget(*(max(1, value // 2) for value in network.dense))
    bank = gates.attach(network.module, network.graph)
    controller = WidthController(network.model, half, bank, steps)

    def controlled(step: int) -> None:
        controller.open_gates()
        gated.trainer.take_step(step)
        bank.learn_importance()
        controller.update()
        if controller.step % RERANK_EVERY == 0:
            bank.rerank()

    seconds: list[tuple[float, float]] = []
    for step in range(steps):
        times = [time.process_time()]
        plain.trainer.take_step(step)
        times.append(time.process_time())
        controlled(step)
        times.append(time.process_time())
        seconds.append((times[1] - times[0], times[2] - times[1]))
    plainly, gated = np.median(np.array(seconds[5:]), 0)
    return float(1 - plainly / gated)


def main() -> None:
    """Compare on every network, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=15_000)
    parser.add_argument("--parts", type=float, nargs="+", default=list(PARTS), help="parts of the dense resources")
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
        if chosen.control_only:
            found[name]["control"] = control_share(problem_on(NETWORKS[name], chosen.images, chosen.epochs))
        else:
            found[name] = measured(name, chosen.images, chosen.epochs, chosen.parts)
        if store:
            store.write_text(json.dumps(found, indent=1) + "\n")
    page = table({name: found[name] for name in NETWORKS if name in found})
    print(page)
    if chosen.output:
        chosen.output.with_suffix(".md").write_text(page)


def problem_on(network: NetworkChoice, images: int, epochs: int) -> Problem:
    """Fashion-MNIST for one network."""
    choice = TaskChoice(name="fashion-mnist", options={"train_limit": images, "val_limit": 500})
    task = load_task(choice)
    spec = TrialSpec(
        task=choice, data=task_digest(choice), network=network, method="differentiable", budget=Budget(), seed=0,
        training=TrainingChoice(epochs=epochs, device="cpu"),
    )  # fmt: skip
    return problem_of(spec, task)


def measured(network: str, images: int, epochs: int, parts: Sequence[float]) -> dict[str, Any]:
    """All competitors on one network."""
    share = control_share(problem_on(NETWORKS[network], images, epochs))
    found = compare(network, images, epochs, parts)
    return {
        "images": images,
        "epochs": epochs,
        "control": share,
        "seconds": {each.job.name: round(each.seconds, 2) for each in found},
        "by_epoch": {each.job.name: [round(seconds, 2) for seconds in each.by_epoch] for each in found},
        "used": {each.job.name: each.used for each in found},
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """The page."""
    lines = [
        PAGE.format(room=ROOM, turn=TURN),
        "| network | images, epochs | part of dense flash, SRAM and MACs | seconds | ratio | used |",
        "|---|---|---|---|---|---|",
    ]
    ratios: dict[str, dict[str, float]] = {}
    for network, row in found.items():
        seconds = row["seconds"]
        ratios[network] = {name: value / seconds[DENSE] for name, value in seconds.items()}
        for name, value in seconds.items():
            start = f"| {network} | {row['images']:,}, {row['epochs']} | {name} | {value:.1f} |"
            lines.append(f"{start} {ratios[network][name]:.2f} | {row['used'][name]} |")
    lines.append("")
    for part, limit in LIMITS.items():
        of = {network: found[part] for network, found in ratios.items() if part in found}
        each = [f"{network} {value:.3f} {'holds' if value <= limit else 'misses'}" for network, value in of.items()]
        lines.append(f"- At {part} of the resources at most {limit}: {', '.join(each)}.")
    shares = ", ".join(f"{network} {100 * row['control']:.1f} %" for network, row in found.items())
    lines += ["", f"Part of a step for gates, importances and prices (median of 35 steps): {shares}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
