"""Predicted against measured cost, and bit-exactness, over generated torch networks.

Run: OMP_NUM_THREADS=1 python benchmarks/mcu/cost_model.py [networks] [file.md]
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import litert
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mcu.cost.arena import predict_arena
from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.int8.structure import structure_of_graph
from mcu.measure import measure_model, model_input
from mcu.tflite import tflm
from mcu.tflite.flatbuffer_size import predict_flash
from mcu.tflite.writer import write_tflite
from mcu.tracing.trace import trace

INPUTS = 24
"""Inputs per network on which TFLM, the reference and LiteRT's reference kernels are compared."""


class Residual(nn.Module):
    def __init__(self, inner: int, outer: int, kernel: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(inner, outer, kernel, stride), nn.ReLU(), *conv(outer, outer, kernel, 1))
        plain = inner == outer and stride == 1
        self.skip = nn.Identity() if plain else nn.Sequential(*conv(inner, outer, (1, 1), stride))
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + self.skip(x))


class Fork(nn.Module):
    def __init__(self, inner: int, left: int, right: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.left = nn.Sequential(*conv(inner, left, kernel, 1), nn.ReLU())
        self.right = nn.Sequential(*conv(inner, right, (1, 1), 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


def conv(inner: int, outer: int, kernel: tuple[int, int], stride: int, groups: int = 1) -> list[nn.Module]:
    """A convolution with torch's symmetric padding and its batch normalisation."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return [nn.Conv2d(inner, outer, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outer)]


def window(rng: np.random.Generator, largest: int = 5) -> tuple[int, int]:
    odd = [k for k in (1, 3, 5) if k <= largest]
    return int(rng.choice(odd)), int(rng.choice(odd))


def activation(rng: np.random.Generator) -> nn.Module:
    return nn.ReLU() if rng.integers(0, 2) else nn.ReLU6()


def width(rng: np.random.Generator) -> int:
    return int(rng.integers(3, 33))


def plain(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    outer = width(rng)
    dilation = int(rng.integers(1, 3))
    unpadded = nn.Conv2d(channels, outer, window(rng, 3), int(rng.integers(1, 3)), dilation=dilation)
    if rng.integers(0, 3) == 0:
        return [unpadded, activation(rng)], outer
    layers = [*conv(channels, outer, window(rng), int(rng.integers(1, 3))), activation(rng)]
    if rng.integers(0, 3) == 0:
        layers.append(nn.MaxPool2d(2) if rng.integers(0, 2) else nn.AvgPool2d(2))
    return layers, outer


def residual(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    outer = channels if rng.integers(0, 2) else width(rng)
    stride = 1 if outer == channels else int(rng.integers(1, 3))
    return [Residual(channels, outer, (3, 3), stride)], outer


def depthwise(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    outer, many = width(rng), int(rng.integers(1, 3))
    kernel, stride = window(rng), int(rng.integers(1, 3))
    layers = [*conv(channels, channels * many, kernel, stride, channels), activation(rng)]
    return [*layers, *conv(channels * many, outer, (1, 1), 1), activation(rng)], outer


def concat(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    left, right = width(rng), width(rng)
    return [Fork(channels, left, right, window(rng, 3))], left + right


class Gated(nn.Module):
    """A convolution, its activation, and squeeze-and-excitation."""

    def __init__(self, inner: int, outer: int, kernel: tuple[int, int], act: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(inner, outer, kernel, 1), act)
        self.gate = nn.Sequential(nn.Conv2d(outer, 4, 1), nn.ReLU(), nn.Conv2d(4, outer, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return y * self.gate(y.mean((2, 3), keepdim=True))


class Shuffled(nn.Module):
    """Half of the channels through a convolution in groups, then all in turn; rows and columns are cut off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.right = nn.Sequential(nn.Conv2d(channels // 2, channels // 2, 3, 1, 1, groups=2), nn.ELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, self.right(right)], 1)
        return F.channel_shuffle(x, 2).relu()[:, :, 1:, :-1] if min(x.shape[2:]) > 2 else x


class Valley(nn.Module):
    """Down by a pool and up again, as in a U-Net, beside the way straight on."""

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.MaxPool2d(2), *conv(channels, channels, (3, 3), 1), nn.LeakyReLU(0.1))
        self.up = nn.Upsample(scale_factor=2, mode=mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.up(self.low(x)), x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]], 1)


def gated(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    outer = width(rng)
    acts = (nn.Hardswish(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU(0.2), nn.ELU())
    return [Gated(channels, outer, window(rng), acts[int(rng.integers(len(acts)))])], outer


def parts(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    outer = 4 * int(rng.integers(1, 9))
    return [*conv(channels, outer, (1, 1), 1), nn.Hardswish(), Shuffled(outer)], outer


def resized(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    mode = str(rng.choice(["nearest", "bilinear"]))
    outer = width(rng)
    return [*conv(channels, outer, (3, 3), 1), nn.ReLU(), Valley(outer, mode)], 2 * outer


def bounded(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    """Padding of other constants, clamps, grouped and dilated convolutions."""
    outer = 3 * int(rng.integers(1, 9))
    padded = nn.ConstantPad2d((1, 0, 0, 1), float(rng.choice([0.0, 0.5, -1.0])))
    groups = nn.Conv2d(outer, 2 * outer, 3, int(rng.integers(1, 3)), 2, dilation=2, groups=3)
    bounds = nn.Hardtanh(-0.5, 1.5) if rng.integers(2) else nn.Hardtanh(0, 2)
    return [padded, *conv(channels, outer, (3, 3), 1), bounds, groups, nn.Hardswish(), nn.MaxPool2d(3, 2, 1)], 2 * outer


def one_dimensional(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    channels, length = int(rng.integers(1, 7)), int(rng.integers(60, 200))
    shape = (channels, length)
    layers: list[nn.Module] = []
    for _ in range(int(rng.integers(2, 5))):
        outer, kernel, causal = width(rng), int(rng.choice([3, 5, 7, 9])), bool(rng.integers(2))
        layers += [nn.ConstantPad1d((2 * (kernel - 1), 0), 0.0)] if causal else []
        layers.append(
            nn.Conv1d(channels, outer, kernel, int(rng.integers(1, 3)), 0 if causal else kernel // 2, 1 + causal)
        )
        layers += [nn.BatchNorm1d(outer), nn.Hardswish() if causal else nn.ReLU()]
        channels = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 6)), shape


Block = Callable[[np.random.Generator, int], tuple[list[nn.Module], int]]
FAMILIES: dict[str, Block | None] = {
    "plain": plain,
    "residual": residual,
    "depthwise": depthwise,
    "concat": concat,
    "1-D": None,
    "gated": gated,
    "parts": parts,
    "resized": resized,
    "bounded": bounded,
}


def generate(family: str, rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A random network of a family, batch-norm statistics set, and its input shape."""
    while True:
        try:
            return draw(family, rng)
        except RuntimeError:  # its strides and pools left no pixel: draw again
            continue


def draw(family: str, rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    block = FAMILIES[family]
    if block is None:
        network, shape = one_dimensional(rng)
    else:
        first = width(rng)
        shape = (int(rng.choice([1, 3])), int(rng.integers(24, 41)), int(rng.integers(24, 41)))
        layers: list[nn.Module] = [*conv(shape[0], first, (3, 3), int(rng.integers(1, 3))), nn.ReLU()]
        channels = first
        for _ in range(int(rng.integers(1, 4))):
            more, channels = block(rng, channels)
            layers += more
        if rng.integers(0, 3):
            tail: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
        else:
            size = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1:].numel()
            tail = [nn.Flatten(), nn.Linear(size, 10)]
        network = nn.Sequential(*layers, *tail)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, *shape))
    return network.eval(), shape


def counted_macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates counted from the torch modules' own outputs, independent of mcusweep's graph."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        positions = output.shape[2:].numel() if output.ndim > 2 else 1
        total += weight.numel() * positions

    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


@dataclass(frozen=True)
class Row:
    family: str
    operators: int
    macs: int
    macs_exact: bool
    flash: int
    flash_error: float
    sram: int
    sram_error: float
    planned: int
    equal_twin: float
    equal_litert: float
    score_error: float


def examine(family: str, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network, shape = generate(family, rng)
    traced = trace(network, shape)
    structure = structure_of_graph(traced.graph)
    folded = FoldedNet(traced.graph, traced.module)
    x = torch.randn(64, *shape)
    calibrate(folded, x)
    model = quantise(folded)
    data = write_tflite(model)
    measured = measure_model(data)
    arena = predict_arena(structure)
    assert measured.measured
    codes = model_input(model, x.numpy())[:INPUTS]
    theirs, ours, third = tflm.run(data, codes), ReferenceInterpreter(model).run(codes), litert.run(data, codes)
    return Row(
        family,
        len(model.ops),
        measured.macs,
        structure.macs() == measured.macs == counted_macs(network, shape),
        measured.flash,
        abs(predict_flash(structure) / measured.flash - 1),
        measured.sram,
        abs(arena.total / measured.sram - 1),
        planned(model, measured.sram),
        float(np.mean(theirs == ours)),
        float(np.mean(theirs == third)),
        score_error(model, ours, network(x[:INPUTS])),
    )


def planned(model: Int8Model, sram: int) -> int:
    """Measured arena bytes that our plan in the file saves; raises if the prediction of it is wrong."""
    data, predicted = write_deployment(model), predict_deployment(model)
    measured = measure_model(data)
    if (measured.flash, measured.sram) != (predicted.flash, predicted.arena.total):
        raise SystemExit(f"deployment predicted {predicted}, measured {measured.flash}, {measured.sram}")
    return sram - measured.sram


def score_error(model: Int8Model, codes: np.ndarray, scores: torch.Tensor) -> float:
    """Mean error of the int8 scores relative to the float scores' spread."""
    tensor = model.tensors[model.output]
    real = (codes.reshape(len(codes), -1).astype(np.float64) - tensor.zero_point) * tensor.scale
    exact = scores.detach().numpy()
    return float(np.abs(real - exact).mean() / np.abs(exact).mean())


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| family | networks | operators | MACs exact | flash, bytes | flash error max / mean | arena, bytes "
        "| arena error max / mean | our plan saves up to | reference = TFLM | LiteRT reference = TFLM |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for family in (*FAMILIES, "all"):
        some = [row for row in rows if family in (row.family, "all")]
        if not some:
            continue
        flash, sram = [row.flash_error for row in some], [row.sram_error for row in some]
        cells = [
            family,
            f"{len(some)}",
            f"{min(r.operators for r in some)} to {max(r.operators for r in some)}",
            f"{sum(r.macs_exact for r in some)}/{len(some)}",
            f"{min(r.flash for r in some):,} to {max(r.flash for r in some):,}",
            f"{max(flash):.3%} / {np.mean(flash):.3%}",
            f"{min(r.sram for r in some):,} to {max(r.sram for r in some):,}",
            f"{max(sram):.3%} / {np.mean(sram):.3%}",
            f"{max(r.planned for r in some):,} bytes",
            f"{np.mean([r.equal_twin for r in some]):.2%}",
            f"{np.mean([r.equal_litert for r in some]):.2%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    torch.set_num_threads(1)
    families, rows, start = list(FAMILIES), [], time.perf_counter()
    for seed in range(count):
        rows.append(examine(families[seed % len(families)], seed))
        print(seed, rows[-1], file=sys.stderr)
    lines = [
        "# Cost model: predicted against measured",
        "",
        f"Command: `OMP_NUM_THREADS=1 python benchmarks/mcu/cost_model.py {count} docs/results/mcu/cost_model.md`",
        "",
        f"{count} generated torch networks (random widths, kernels, strides, symmetric and no padding, dilation, "
        "ReLU and ReLU6, pooling, dense on maps and on pooled vectors; in the last five families causal and dilated "
        "1-D convolutions, hard swish, SiLU, tanh, ELU, leaky ReLU, clamps, squeeze-and-excitation, chunks, channel "
        "shuffles, slices of rows and columns, groups, upsampling and padding with other constants), quantised, "
        "written, and measured by "
        "TensorFlow Lite Micro. Flash is the bytes of the file, arena TFLM's recorded total; both are predicted from "
        "the torch graph before any file exists. MACs are held against a count by forward hooks on the torch "
        f"modules. Outputs are compared on {INPUTS} inputs a network. An error of 0.000% means equal to the byte.",
        "",
        *table(rows),
        "",
        "LiteRT has ELU among its optimised kernels alone, whose codes differ by one here and there.",
        f"Mean int8 score error, relative to the mean float score: {np.mean([r.score_error for r in rows]):.2%}.",
        f"tflite-micro {version('tflite-micro')}, ai-edge-litert {version('ai-edge-litert')}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}; "
        f"{time.perf_counter() - start:.0f} s.",
    ]
    print("\n".join(lines))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
