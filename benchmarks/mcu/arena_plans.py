"""Our arena plans against TFLM's greedy planner and the bytes that are ever alive at once, on random widths.

Run: python benchmarks/mcu/arena_plans.py docs/results/mcu/arena_plans.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mcu.cost.arena import greedy_plan, lifetimes, peak_live
from mcu.cost.planner import best_plan
from mcu.int8.structure import structure_of_graph
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

NETWORKS = ("resnet8", "resnet20", "mobilenet-v2", "ds-cnn", "vgg-small", "plain-cnn")
WIDTHS = 60
SHAPE = (1, 28, 28)


def row(name: str, generator: np.random.Generator) -> str:
    graph = trace(build_network(NetworkChoice(name=name), SHAPE, 10, 0), SHAPE).graph
    structure, matrix, dense = structure_of_graph(graph), graph.channel_matrix(), graph.widths
    greedy, ours = [], []
    for _ in range(WIDTHS):
        widths = generator.integers(1, dense + 1)
        channels = np.rint(matrix @ np.append(widths, 1)).astype(int).tolist()
        buffers = lifetimes(structure.with_channels(channels))
        bound = peak_live(buffers)
        greedy.append(greedy_plan(buffers).total / bound)
        ours.append(best_plan(buffers).total / bound)
    optimal = sum(ratio == 1 for ratio in ours)
    return (
        f"| {name} | {np.mean(greedy):.3f} | {max(greedy):.3f} | {np.mean(ours):.3f} | {max(ours):.3f} "
        f"| {optimal}/{WIDTHS} |"
    )


def main() -> None:
    generator = np.random.default_rng(0)
    lines = [
        "# Arena plans",
        "",
        "Command: `python benchmarks/mcu/arena_plans.py docs/results/mcu/arena_plans.md`",
        "",
        f"{WIDTHS} random channel widths a network, input {SHAPE}. Arena for activations divided by the most bytes",
        "alive at any step, below which no plan can be. The deployed file carries our plan where that pays.",
        "",
        "| network | TFLM greedy, mean | max | ours, mean | max | ours at the bound |",
        "|---|---|---|---|---|---|",
        *(row(name, generator) for name in NETWORKS),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
