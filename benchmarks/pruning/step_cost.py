"""What a training step costs beside another one: int8 and float, even and uneven widths, memory kept and handed back.

    OMP_NUM_THREADS=1 python benchmarks/pruning/step_cost.py --output docs/results/pruning/step_cost.md

Steps that are compared take turns; medians. How the memory of a step is handled is for a whole process, so there the
processes take turns.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from overhead import NETWORKS, problem_on

from mcu.budget import Budget
from mcu.int8.calibration import calibrate
from mcu.int8.fake_quantisation import rounded_weight, weight_scales
from mcu.int8.folded_net import FoldedNet
from orchestrator.executors.attempt import keep_freed_memory
from pruning.training.evaluation import normalise
from pruning.training.job import Job
from pruning.training.problem import Problem, Settings

STEPS, UNCOUNTED, PROCESSES = 40, 5, 3
UNEVEN, EVEN = 240, 256

PAGE = """\
# What a training step costs beside another one

Fashion-MNIST, batches of 128, one thread: median of {counted} steps each, in turns. "int8" is a step with int8
arithmetic simulated; "filters" is `rounded_weight` beside `torch.fake_quantize_per_channel_affine`, forward and
backward over all filters of the network; "memory" is a float step in a process that keeps freed memory
(`keep_freed_memory`) beside one that does not, {processes} processes each.

    OMP_NUM_THREADS=1 python benchmarks/pruning/step_cost.py --output docs/results/pruning/step_cost.md

| network | float step | int8 / float | filters: ours / torch's | memory: kept / handed back |
|---|---|---|---|---|
"""


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "MEMORY"), help="one float step in ms, for this script")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        name, memory = options.child
        if memory == "kept":
            keep_freed_memory()
        print(1e3 * medians({"float": stepping(float_run(network(name)))})["float"])
        return
    page = PAGE.format(counted=STEPS - UNCOUNTED, processes=PROCESSES)
    memory = {name: memory_ratio(name) for name in NETWORKS}  # before this process keeps its own
    keep_freed_memory()
    for name in NETWORKS:
        problem = network(name)
        job = float_run(problem)
        found = medians({"float": stepping(job), "int8": stepping(int8_run(problem))})
        filters = filters_ratio(FoldedNet(job.network.graph, job.network.module))
        page += f"| {name} | {1e3 * found['float']:.0f} ms | {found['int8'] / found['float']:.2f} | "
        page += f"{filters:.2f} | {memory[name]:.2f} |\n"
    page += f"\nvgg-small with {EVEN} instead of {UNEVEN} channels in its six widest layers: "
    page += f"{even_ratio():.2f} of a step.\n"
    print(page)
    if options.output:
        options.output.write_text(page)


def network(name: str) -> Problem:
    """The problem of a network by its name here."""
    return problem_on(NETWORKS[name], images=128 * (STEPS + 1), epochs=2)


def medians(actions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each action; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(STEPS):
        for name, act in actions.items():
            start = time.perf_counter()
            act()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times[UNCOUNTED:])) for name, times in seconds.items()}


def float_run(problem: Problem) -> Job:
    """The dense network, about to be trained."""
    return Job(problem, Budget(), Settings(), lambda progress: True, "float")


def int8_run(problem: Problem) -> Job:
    """The dense network, about to be trained with int8 arithmetic simulated."""
    job = float_run(problem)
    folded = FoldedNet(job.network.graph, job.network.module)
    calibrate(folded, normalise(torch.as_tensor(problem.x_train[:512]), problem))
    folded.fake_quantise(True)
    job.set_module(folded)
    return job


def stepping(job: Job) -> Callable[[], object]:
    """Takes the next optimiser step."""
    steps = itertools.count()
    return lambda: job.trainer.take_step(next(steps))


def filters_ratio(folded: FoldedNet) -> float:
    """Time of our rounding of all filters beside torch's."""

    def theirs(weight: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, weight_scales(weight), zeros, 0, -127, 127)

    def over_all(rounding: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for weight in folded.weights.values():
            rounding(weight).backward(torch.ones_like(weight))

    found = medians({"ours": lambda: over_all(rounded_weight), "theirs": lambda: over_all(theirs)})
    return found["ours"] / found["theirs"]


def even_ratio() -> float:
    """Time of a step with even widths beside one with fewer, uneven channels."""
    problem, jobs = network("vgg-small"), {}
    for width in (UNEVEN, EVEN):
        jobs[width] = float_run(problem)
        prunable = jobs[width].network
        prunable.keep([np.arange(min(size, width)) for size in prunable.graph.widths])
    found = medians({str(width): stepping(job) for width, job in jobs.items()})
    return found[str(EVEN)] / found[str(UNEVEN)]


def memory_ratio(name: str) -> float:
    """Time of a step in processes that keep freed memory beside those that do not."""
    times: dict[str, list[float]] = {"kept": [], "handed back": []}
    for _ in range(PROCESSES):
        for memory, found in times.items():
            command = [sys.executable, __file__, "--child", name, memory]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(float(ran.stdout))
    return float(np.median(times["kept"]) / np.median(times["handed back"]))


if __name__ == "__main__":
    main()
