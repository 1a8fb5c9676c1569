"""Reference interpreter against TensorFlow Lite Micro: images a second on one core, and equality of every output.

Run: OMP_NUM_THREADS=1 python benchmarks/mcu/reference_interpreter.py [images] [file.md]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from mcu.graph.kinds import Activation, Kind
from mcu.graph.ports import Port
from mcu.graph.windows import output_size, same_padding
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks.registry import build_network


def resnet8(size: tuple[int, int, int], width: int, classes: int = 10) -> Int8Model:
    """ResNet-8 of MLPerf Tiny's shape with random weights."""
    rng = np.random.default_rng(0)
    tensors = [QTensor((1, *size), 0.02, -10)]
    ops: list[QOp] = []

    def conv(x: int, channels: int, kernel: int, stride: int, activation: Activation, same: bool = True) -> int:
        _, height, wide, inner = tensors[x].shape
        rows, columns = (same_padding(s, kernel, stride) if same else (0, 0) for s in (height, wide))
        padding = rows, columns
        shape = [output_size(s, kernel, stride, 1, p) for s, p in zip((height, wide), padding, strict=True)]
        rectified = activation is not Activation.NONE
        tensors.append(QTensor((1, *shape, channels), 0.02, -128 if rectified else 3))
        weights = rng.integers(-127, 128, (channels, kernel, kernel, inner), dtype=np.int8)
        scales = rng.uniform(0.5, 1.5, channels).astype(np.float32) * np.float32(0.014 / kernel / np.sqrt(inner))
        bias = rng.integers(-3000, 3000, channels).astype(np.int32)
        pair = (kernel, kernel)
        ops.append(
            QOp(
                Kind.CONV, (x,), len(tensors) - 1, weights, scales, bias, pair, (stride, stride), (1, 1), padding,
                activation,
            )
        )  # fmt: skip
        return len(tensors) - 1

    x = conv(0, width, 3, 1, Activation.RELU)
    for stage in range(3):
        stride = 1 if stage == 0 else 2
        y = conv(x, width << stage, 3, stride, Activation.RELU)
        y = conv(y, width << stage, 3, 1, Activation.NONE)
        skip = x if stage == 0 else conv(x, width << stage, 1, stride, Activation.NONE)
        tensors.append(QTensor(tensors[y].shape, 0.025, -128))
        ops.append(QOp(Kind.ADD, (y, skip), len(tensors) - 1, activation=Activation.RELU))
        x = len(tensors) - 1
    _, height, wide, channels = tensors[x].shape
    tensors.append(QTensor((1, 1, 1, channels), tensors[x].scale, tensors[x].zero_point))
    ops.append(QOp(Kind.AVG_POOL, (x,), len(tensors) - 1, kernel=(height, wide)))
    conv(len(tensors) - 1, classes, 1, 1, Activation.NONE, same=False)
    return Int8Model(tuple(tensors), tuple(ops), (Port(0),), (Port(len(tensors) - 1),))


def vgg_small() -> Int8Model:
    """vgg-small untrained: layers of 256 channels, whose sums float32 holds in parts only."""
    module = build_network(NetworkChoice(name="vgg-small"), (1, 28, 28), 10, seed=0)
    traced = trace(module, (1, 28, 28))
    network = FoldedNet(traced.graph, traced.module).eval()
    calibrate(network, torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    return quantise(network)


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    torch.set_num_threads(1)
    lines = [
        "# Reference interpreter: speed and exactness",
        "",
        "Command: `OMP_NUM_THREADS=1 python benchmarks/mcu/reference_interpreter.py "
        f"{images} docs/results/mcu/reference_interpreter.md`",
        "",
        "One core. TFLM is timed on 100 images in the same run, on which every output is compared.",
        "",
        "| network | MACs | images | reference, s | reference, images/s | TFLM, images/s | ratio | equal outputs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, model in (
        ("ResNet-8, 1x28x28, width 8", resnet8((28, 28, 1), 8)),
        ("ResNet-8, 1x28x28, width 16", resnet8((28, 28, 1), 16)),
        ("ResNet-8, 3x32x32, width 16", resnet8((32, 32, 3), 16)),
        ("vgg-small, 1x28x28", vgg_small()),
    ):
        size = model.tensors[model.input].shape[1:]
        x = np.random.default_rng(1).integers(-128, 128, (images, *size)).astype(np.int8)
        reference = ReferenceInterpreter(model)
        reference.run(x[:256])
        start = time.perf_counter()
        ours = reference.run(x)
        seconds = time.perf_counter() - start
        sample = x[:100]
        start = time.perf_counter()
        theirs = tflm.run(write_tflite(model), sample)
        rate = len(sample) / (time.perf_counter() - start)
        equal = np.mean(ours[: len(sample)] == theirs)
        lines.append(
            f"| {name} | {model.macs():,} | {images:,} | {seconds:.2f} | {images / seconds:,.0f} | {rate:,.0f} "
            f"| {images / seconds / rate:.0f} | {equal:.2%} |"
        )
        print(lines[-1], flush=True)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
