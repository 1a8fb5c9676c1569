"""The pruner in a loop that is not ours: random networks, budgets and optimisers, and what a step costs.

    OMP_NUM_THREADS=1 python benchmarks/pruning/own_loop.py FOLDER --output docs/results/pruning/own_loop.md

Every run is a short loop of 40 steps: whether budgets are kept is the question, not accuracy. Bounds lie between the
least the network can be and what it is, on a random subset of flash, SRAM and MACs. Runs that are in FOLDER already are
not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mcu.budget import RESOURCES, Budget
from pruning.differentiable import Phases, compression
from pruning.engine.landing import smallest
from pruning.engine.network import Constraints
from pruning.pruner import Pruner
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

NETWORKS = ("plain-cnn", "resnet8", "ds-cnn", "tiny-cnn", "mobilenet-v1", "mobilenet-v2", "vgg-small", "grid-cnn")
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),  # at 0.05 the dense networks diverge, too
    "Adam": lambda p: torch.optim.Adam(p, 3e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 3e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "NAdam": lambda p: torch.optim.NAdam(p, 3e-3),
}
SHAPE, CLASSES, BATCH, STEPS, RUNS = (1, 16, 16), 4, 8, 40, 200
LEAST_ROOM = 1.15
"""Bounds are this many times the least a network can be, or more: nearer, one channel is a tenth of a bound."""

COSTED = ("plain-cnn", "resnet8", "ds-cnn")
COSTED_SHAPE, COSTED_BATCH, COSTED_STEPS = (1, 28, 28), 64, 240

PAGE = """\
# The pruner in a loop of one's own

    OMP_NUM_THREADS=1 python benchmarks/pruning/own_loop.py FOLDER --output docs/results/pruning/own_loop.md

## {runs} random runs

Networks, budgets (a random subset of flash, SRAM and MACs) and optimisers are drawn at random; {steps} steps each, at
rates at which the dense networks train.

| | |
|---|---|
| within the budget, on measured bytes | {kept} of {runs} |
| crashed | {crashed} |
| used at least 95 % of the tightest bound | {used} of {kept} |
| by optimiser, runs | {optimizers} |

## What `pruner.step()` costs

Two loops of {costed} steps with AdamW at batch {batch} take turns at every step in one process, one thread: one trains
the dense network, one prunes it to a quarter of its flash, SRAM and MACs with the default schedule. CPU time: a step of
the dense network (forward, backward, update); `pruner.step()` while importances are learned and widths move, mean of
all of them with calibrations, removals and landing, and its share of the step; then the whole loop with the pruner
beside the whole loop without.

| network | training step | `pruner.step()` | share | with, to without |
|---|---|---|---|---|
"""


def draw(index: int) -> dict[str, Any]:
    """The ``index``-th random run; the same at every call."""
    rng = np.random.default_rng([640, index])
    return {
        "index": index,
        "network": str(rng.choice(NETWORKS)),
        "width": float(rng.choice([0.25, 0.35])),
        "optimizer": str(rng.choice(list(OPTIMIZERS))),
        "resources": sorted(rng.choice(RESOURCES, int(rng.integers(1, 4)), replace=False).tolist()),
        "place": float(rng.uniform(0.05, 0.9)),
    }


def budget_of(job: dict[str, Any], network: torch.nn.Module) -> Budget:
    """Bounds at the drawn place between the least and the dense network, in log resources."""
    constraints = Constraints(SHAPE)
    model = constraints.model(network)
    dense, least = model.exact(model.dense_widths), smallest(model)
    bounds: dict[str, Any] = {}
    for name in job["resources"]:
        low, high = LEAST_ROOM * getattr(least, name), getattr(dense, name)
        bounds[name] = int(np.exp(np.log(low) + job["place"] * max(0.0, np.log(high) - np.log(low))))
    return Budget(**bounds)


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one loop, or read what came of it."""
    target = folder / f"{job['index']:04d}.json"
    if target.exists():
        return dict(json.loads(target.read_text()))
    torch.manual_seed(job["index"])
    network = build_network(
        NetworkChoice(name=job["network"], width=job["width"]), SHAPE, CLASSES, job["index"],
        (2, 2) if job["network"] == "grid-cnn" else (),
    )  # fmt: skip
    budget = budget_of(job, network)
    row = job | {"bounds": budget.bounds(), "error": ""}
    try:
        pruner = Pruner(network, torch.zeros(1, *SHAPE), budget, STEPS)
        optimizer = OPTIMIZERS[job["optimizer"]](pruner.parameters())
        pruner.attach(optimizer)
        held = []
        for _ in range(STEPS):
            x = torch.rand(BATCH, *SHAPE)
            y = pruner(x).flatten(1)
            loss = functional.mse_loss(y, x.flatten(1)[:, : y.shape[1]])
            held.append(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruner.step()
        model = pruner.export(calibration=torch.rand(64, *SHAPE))
        row |= {"within": budget.admits(model.resources), "binding_use": budget.binding_use(model.resources)}
    except Exception as error:
        row |= {"within": False, "error": f"{type(error).__name__}: {error}"}
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row))
    print(job["index"], job["network"], job["optimizer"], row.get("binding_use"), row["error"], flush=True)
    return row


def cost(name: str) -> tuple[float, float, float]:
    """CPU seconds of a training step without a pruner and of ``pruner.step()``; whole loops, with to without."""
    torch.manual_seed(0)
    plain, network = (build_network(NetworkChoice(name=name), COSTED_SHAPE, 10, 0) for _ in range(2))
    dense = Constraints(COSTED_SHAPE).model(network)
    quarter = Budget(*(max(1, used // 4) for used in astuple(dense.exact(dense.dense_widths))))
    pruner = Pruner(network, torch.zeros(1, *COSTED_SHAPE), quarter, COSTED_STEPS)
    loops = [(module, torch.optim.AdamW(module.parameters())) for module in (plain, pruner)]
    pruner.attach(loops[1][1])
    times: list[list[float]] = []
    landed = 0
    for step in range(COSTED_STEPS):
        x, y = torch.rand(COSTED_BATCH, *COSTED_SHAPE), torch.randint(0, 10, (COSTED_BATCH,))
        clock = [time.process_time()]
        for module, optimizer in loops:
            loss = functional.cross_entropy(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.append(time.process_time())
        pruner.step()
        clock.append(time.process_time())
        times.append(np.diff(clock).tolist())
        landed = landed or (step + 1 if pruner.landed else 0)
    without, trained, moved = np.array(times).T
    phases = Phases.of({}, COSTED_STEPS, compression(pruner.dense, quarter))
    share = moved[phases.unwatched : landed].mean()
    return float(np.median(without)), float(share), float((trained + moved).sum() / without.sum())


def main() -> None:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [run(draw(index), options.folder) for index in range(options.runs)]
    kept = [row for row in rows if row["within"]]
    page = PAGE.format(
        runs=len(rows), steps=STEPS, kept=len(kept), crashed=sum(bool(row["error"]) for row in rows),
        used=sum(row["binding_use"] >= 0.95 for row in kept), costed=COSTED_STEPS, batch=COSTED_BATCH,
        optimizers=", ".join(f"{name} {count}" for name, count in Counter(row["optimizer"] for row in rows).items()),
    )  # fmt: skip
    for name in COSTED:
        training, moving, whole = cost(name)
        page += f"| {name} | {1e3 * training:.1f} ms | {1e3 * moving:.2f} ms | "
        page += f"{moving / training:.1%} | {whole:.2f} |\n"
    print(page)
    if options.output:
        options.output.write_text(page)


if __name__ == "__main__":
    main()
