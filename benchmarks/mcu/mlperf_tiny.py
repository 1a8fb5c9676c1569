"""Networks of the shapes of MLPerf Tiny's four reference models, built in torch, exported and measured.

Run: python benchmarks/mcu/mlperf_tiny.py docs/results/mcu/mlperf_tiny.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mcu.cost.deployment import write_deployment
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.measure import live_memory, measure_model
from mcu.tflite.reader import read_tflite
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network


@dataclass(frozen=True)
class Reference:
    """A published int8 model: bytes of its file and of its weights, MACs, peak of live activations."""

    name: str
    shape: tuple[int, ...]
    network: NetworkChoice | None
    classes: int
    file: int
    macs: int
    peak: int


REFERENCES = (
    Reference(
        "image classification, ResNet-8", (3, 32, 32), NetworkChoice(name="resnet8"), 10,
        98_496, 12_501_632, 49_152,
    ),
    Reference("keyword spotting, DS-CNN", (1, 49, 10), NetworkChoice(name="ds-cnn"), 12, 53_936, 2_656_768, 16_000),
    Reference(
        "visual wake words, MobileNetV1-0.25", (3, 96, 96), NetworkChoice(name="mobilenet-v1", width=0.25), 2,
        333_288, 7_489_664, 55_296,
    ),
    Reference("anomaly detection, autoencoder", (640,), None, 640, 276_976, 264_192, 768),
)  # fmt: skip


def autoencoder() -> nn.Module:
    """640-128-128-128-128-8-128-128-128-128-640, batch normalisation and ReLU between."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640))


def row(reference: Reference) -> str:
    torch.manual_seed(0)
    choice = reference.network
    shape = reference.shape
    module = build_network(choice, shape, reference.classes, 0) if choice and len(shape) == 3 else autoencoder()
    traced = trace(module.eval(), shape)
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, torch.as_tensor(np.random.default_rng(0).normal(size=(64, *shape)), dtype=torch.float32))
    data = write_deployment(quantise(network))
    measured, peak = measure_model(data), max(live_memory(read_tflite(data)))
    exact = "exact" if measured.macs == reference.macs else f"{measured.macs - reference.macs:+,}"
    return (
        f"| {reference.name} | {reference.macs:,} | {exact} | {reference.file:,} | {measured.flash:,} "
        f"| {reference.peak:,} | {peak:,} | {measured.sram:,} | {measured.sram_activations:,} |"
    )


def main() -> None:
    lines = [
        "# Networks of MLPerf Tiny's shapes",
        "",
        "Command: `python benchmarks/mcu/mlperf_tiny.py docs/results/mcu/mlperf_tiny.md`",
        "",
        "Built in torch with random weights, exported by mcusweep, measured by TensorFlow Lite Micro. The published",
        "files carry tensor names, softmax and per-operator options that ours leave out.",
        "",
        "| model | MACs published | ours | file published, bytes | ours | peak of live activations published | ours "
        "| arena measured | of it activations |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(reference) for reference in REFERENCES),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
