"""What a turn of each kernel's loops costs on every core, fitted to the emulator's counts; and how far off that is.

    OMP_NUM_THREADS=1 python benchmarks/mcu/instruction_costs.py --core cortex-m4f     its table, to standard output
    OMP_NUM_THREADS=1 python benchmarks/mcu/instruction_costs.py                       every table of the file
    OMP_NUM_THREADS=1 python benchmarks/mcu/instruction_costs.py --check [--core ...]  errors on 40 other networks

Cores that execute the same instructions share a table (``SAME_CODE``).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from mcu.cost.firmware_kernels import COLUMN
from mcu.cost.firmware_memory import plan_memory
from mcu.firmware import CORES, FirmwareDoesNotFit, run_in_emulator, write_project
from mcu.firmware.calls import calls_of
from mcu.firmware.code_sizes import KERNELS
from mcu.firmware.instructions import SAME_CODE, loop_counts, predict_instructions
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.int8.model import Int8Model
from random_nets import RandomNet, random_net

FITTED = range(100, 124)
CHECKED = range(20)
MEASURED = tuple(core for core in CORES if core not in SAME_CODE)
TABLES = (Kind.HARD_SWISH, Kind.LEAKY_RELU, Kind.TANH, Kind.LOGISTIC)


def assorted_net(seed: int) -> Int8Model:
    """Eight operators of random shape, all kinds alike often, then mean, dense layer and softmax."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    x = net.conv(net.input(int(rng.integers(6, 18)), int(rng.integers(6, 18)), int(rng.integers(1, 5))), 12)
    for _ in range(8):
        x = _assorted(net, x, rng)
    x = net.mean(x)
    channels = net.tensors[x].shape[-1]
    return net.model(net.softmax(net.dense(net.reshape(x, (1, channels)), int(rng.integers(2, 20)))))


def rare_net(seed: int) -> Int8Model:
    """Convolutions in groups, depthwise ones with a multiplier, transposed ones, slopes, interpolation: what
    ``assorted_net`` seldom has."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    x = net.input(int(rng.integers(5, 14)), int(rng.integers(5, 14)), 12)
    for groups in (2, 3, 4, 6):
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        x = net.conv(x, 12 * int(rng.integers(1, 3)), kernel, groups=groups, same=bool(rng.integers(2)))
        if net.tensors[x].shape[3] == 12:
            x = net.depthwise(x, kernel[::-1], multiplier=int(rng.integers(2, 4)))
        x = net.conv(x, 12, (1, 1), groups=groups)
    for channels in (6, 9, 13):
        size = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        x = net.bilinear(x, size, list(Sampling)[int(rng.integers(3))])
        kernel, stride = (int(rng.integers(1, 5)), int(rng.integers(1, 5))), (int(rng.integers(1, 4)), 2)
        x = net.prelu(net.transposed(x, channels, kernel, stride))
    return net.model(net.bilinear(x, (9, 7)))


def narrow_net(seed: int) -> Int8Model:
    """A first layer of a few channels, and two 1x1 convolutions behind it."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    channels = int(rng.integers(1, 5))
    kernel = (int(rng.integers(2, 11)), int(rng.integers(1, 1 + min(5, COLUMN // 11 // channels))))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
    size = (int(rng.integers(10, 24)), int(rng.integers(6, 16)))
    alone = seed % 3 == 0  # a single position
    x = net.input(*(kernel if alone else size), channels)
    x = net.conv(x, int(rng.integers(4, 40)), kernel, stride, same=not alone and bool(rng.integers(2)))
    x = net.conv(x, 16 if seed % 2 else int(rng.integers(4, 40)), (1, 1))
    return net.model(net.conv(x, int(rng.integers(4, 40)), (1, 1)))


def depthwise_net(seed: int) -> Int8Model:
    """Depthwise layers of few channels and of many, and of every shape of window."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    channels = int(rng.choice((1, 1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 24)))
    x = net.input(int(rng.integers(5, 15)), int(rng.integers(5, 15)), channels)
    for _ in range(4):
        kernel, dilation = (int(rng.integers(1, 6)), int(rng.integers(1, 6))), int(rng.integers(3)) // 2 + 1
        stride = (int(rng.integers(2)) + 1,) * 2 if dilation == 1 and min(net.tensors[x].shape[1:3]) > 4 else (1, 1)
        x = net.depthwise(x, kernel, stride, dilation=(dilation, dilation))
    return net.model(x)


def _assorted(net: RandomNet, x: int, rng: np.random.Generator) -> int:
    _, height, width, channels = net.tensors[x].shape
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    wide = int(rng.integers(4, 33))
    match int(rng.integers(15)):
        case 0:
            return net.conv(x, wide, (1, 1))
        case 1:
            return net.conv(x, wide, kernel, dilation=(int(rng.integers(1, 3)), 2))
        case 2:
            return net.depthwise(x, kernel, (int(rng.integers(1, 3)), 1))
        case 3 if channels <= 12:
            return net.depthwise(x, kernel, multiplier=int(rng.integers(2, 4)))
        case 4 if channels % 2 == 0:
            return net.conv(x, 2 * int(rng.integers(2, 9)), kernel, groups=2)
        case 5 if min(height, width) > 5:
            return net.pool(x, Kind.MAX_POOL, kernel, (1, int(rng.integers(1, 3))), same=True)
        case 6 if min(height, width) > 5:
            return net.pool(x, Kind.AVG_POOL, kernel, (int(rng.integers(1, 3)), 1), same=True)
        case 7:
            return net.add(x, net.conv(x, channels, (1, 1), activation=Activation.NONE))
        case 8 if height < 20 and width < 20:
            return net.pad(x, (1, int(rng.integers(3))), (int(rng.integers(3)), 1))
        case 9 if channels < 40:
            return net.concat(x, net.conv(x, wide, (1, 1)))
        case 10:
            return net.mul(net.relu(x), net.table(x, TABLES[int(rng.integers(4))]))
        case 11 if height * width < 150:
            return net.enlarge(x)
        case 12 if min(height, width) > 5:
            begin = (int(rng.integers(3)), int(rng.integers(3)))
            step = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            return net.slice(x, begin, step, ((height - begin[0]) // step[0], (width - begin[1]) // step[1]))
        case 13:
            return net.gather(x, tuple(int(channel) for channel in rng.integers(channels, size=wide)))
        case _:
            return net.conv(x, wide, (3, 3), (int(rng.integers(1, 3)),) * 2)


def counted(model: Int8Model, core: str, *, profile: bool) -> tuple[int, tuple[int, ...]] | None:
    """Instructions of an inference, or of its layers on whole maps; None if no emulated board has room."""
    with tempfile.TemporaryDirectory() as folder:
        shape = model.tensors[model.input].shape[1:]
        inputs = np.random.default_rng(1).integers(-128, 128, (1, *shape)).astype(np.int8)
        write_project(model, Path(folder), samples=inputs, plan=plan_memory(model, by_strips=not profile))
        try:
            run = run_in_emulator(Path(folder), CORES[core], profile=profile)
        except FirmwareDoesNotFit:
            return None
    if not run.bit_exact:
        raise SystemExit(f"{core}: not bit-exact")
    return run.instructions, run.layers


def fit(core: str) -> dict[str, list[float]]:
    """Costs of every kernel, by the least sum of squared relative errors, none below 0."""
    rows: dict[str, list[tuple[tuple[int, ...], int]]] = {name: [] for name in KERNELS}
    for seed in FITTED:
        rare = (rare_net(seed),) if seed % 4 == 0 else ()
        for model in (random_net(seed), assorted_net(seed), narrow_net(seed), depthwise_net(seed), *rare):
            found = counted(model, core, profile=True)
            for call, instructions in zip(calls_of(model), found[1] if found else (), strict=found is not None):
                rows[call.function].append((loop_counts(call, core), instructions))
    costs = {}
    for name, own in rows.items():
        counts, measured = np.array([row[0] for row in own], float), np.array([row[1] for row in own], float)
        weights = 1 / np.maximum(measured, 500)
        costs[name] = [round(float(cost), 2) for cost in nnls(counts * weights[:, None], measured * weights)[0]]
    return costs


def check(core: str) -> str:
    """A row of the table of errors."""
    errors = []
    for seed in CHECKED:
        for model in (random_net(seed), assorted_net(seed)):
            found = counted(model, core, profile=False)
            if found is not None:
                errors.append(predict_instructions(model, CORES[core], plan_memory(model)) / found[0] - 1)
    shown = np.abs(errors)
    return f"| {core} | {len(errors)} | {shown.mean():.1%} | {min(errors):+.1%} to {max(errors):+.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", choices=tuple(CORES), action="append")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for core in arguments.core or MEASURED:
        if arguments.check:
            print(check(core), flush=True)
            continue
        costs = fit(core)
        print(f'\n["{core}"]')
        print("\n".join(f"{kernel} = {row}" for kernel, row in costs.items()), flush=True)


if __name__ == "__main__":
    main()
