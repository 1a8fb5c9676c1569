"""Firmware of int8 models on every emulated core: flash, RAM, stack, instructions, bit-exactness; writes a table.

    OMP_NUM_THREADS=1 python benchmarks/mcu/firmware.py [MODEL.tflite ...] [--output docs/results/mcu/firmware.md]
    python benchmarks/mcu/firmware.py --code-sizes      the table of mcu/firmware/code_sizes.py, measured anew

Without files three networks with random weights are measured. The reference outputs are TensorFlow Lite Micro's
where tflite-micro is installed, else the reference interpreter's. With bakenn installed (extra ``cmsis``) CMSIS-NN's
kernels run the same models on the Cortex-M4 beside ours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from firmware_cmsis import CmsisRun, bakenn_version, run_cmsis, run_cmsis_layer

from mcu.cost.firmware_kernels import COLUMN
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory
from mcu.devices import Device, find_device
from mcu.firmware import CORES, Core, FirmwareMeasurement, measure_firmware, predict_firmware, toolchain, write_project
from mcu.firmware.build import build
from mcu.firmware.calls import calls_of
from mcu.firmware.code_sizes import measure_code
from mcu.firmware.prediction import constant_bytes
from mcu.firmware.toolchain import ARCHITECTURES
from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from mcu.tflite.reader import read_tflite
from mcu.tflite.writer import write_tflite
from random_nets import RandomNet, every_operator_net, plain_net, residual_net, separable_net

MEASURED_CORES = ("cortex-m0+", "cortex-m3", "cortex-m4f", "cortex-m7f", "cortex-m33", "cortex-m55", "riscv32imc")
COMPARED_CORES = ("cortex-m4f", "cortex-m55")
SAMPLES = 3


@dataclass(frozen=True)
class Subject:
    """A model to measure, its file, inputs and the outputs they must give."""

    name: str
    model: Int8Model
    data: bytes
    inputs: np.ndarray
    expected: np.ndarray

    @property
    def plan(self) -> FirmwarePlan:
        return plan_memory(self.model, by_strips=False)


VECTOR_BOUND = """\
## How few instructions the Cortex-M55 could take

A lower bound of the forms that are used, without any set-up, from the instructions that load, multiply and requantise
(goal: at most 0.35 a MAC from 16 channels on). `vmladava` multiplies 16 values. Four sums are requantised by two moves
to a vector, bias, high product, two for the rounding, shift, offset, two bounds and a store: 11; and 3 loads
of constants.

- One vector of inputs, values kept at four positions, two channels a turn: 2 loads of weights, 8 products, 4 moves, 6
  loads of constants, 10 to rescale, 2 to narrow both channels into one vector, 3 to offset and bound it, 1 store, 1
  loop: 37 for 128 MACs.
- 17 to 32 inputs, kept at two positions, four channels a turn: 8 loads, 16 products, 4 moves, 3 loads, 10 to rescale, 2
  to narrow both positions into one vector, 3 to offset and bound it, 1 store, 1 loop: 48 for 8 outputs, so 6 an output:
  above 0.35 with 17 inputs.
- More, a channel at four positions a turn: 9 for every 16 inputs and 1 loop, and 14: of 9 x 16 values 104 for 576 MACs.

| layer | bound | reached | where the rest goes |
|---|---|---|---|
| 1x1, 16 to 24 | 0.29 | 0.34 | bounds and place (no register is left), set-up of every four positions |
| 1x1, 17 to 19 | 0.36 | 0.57 | 20 channels for 19 in two loops, set-up of every two positions; as below |
| 1x1, 24 to 96 | 0.25 | 0.32 | 11 a turn: addresses; offset and bounds, for which no register is left |
| 1x1, 64 to 64 | 0.21 | 0.27 | values are loaded again for every channel, 28 a channel around them |
| 3x3, 16 to 16 | 0.18 | 0.30 | sums of the weights (borders), 10 for each of three runs, 33 a channel |
| 3x3, 17 to 17 | 0.22 | 0.34 | the same; every run of 51 values takes four vectors |
""".splitlines()


def subject_of(name: str, model: Int8Model, data: bytes) -> Subject:
    shape = model.tensors[model.input].shape[1:]
    inputs = np.random.default_rng(1).integers(-128, 128, (SAMPLES, *shape)).astype(np.int8)
    expected = tflm.run(data, inputs, name) if tflm.available() else ReferenceInterpreter(model).run(inputs)
    return Subject(name, model, data, inputs, expected)


def subjects(files: list[Path]) -> list[Subject]:
    if files:
        read = [(path.stem, path.read_bytes()) for path in files]
        return [subject_of(name, read_tflite(data, name), data) for name, data in read]
    nets = {"resnet8-like": residual_net(), "ds-cnn-like": separable_net(), "plain": plain_net()}
    return [subject_of(name, model, write_tflite(model)) for name, model in nets.items()]


def roomy_device(core: Core) -> Device:
    """A device of that core with room for any model, so that every model is measured on every core."""
    base = find_device("stm32f446re")
    huge = {"flash": 16 << 20, "sram": 8 << 20, "sram_bank": None, "reserve_flash": 0, "reserve_sram": 0}
    values = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return Device(**(values | huge | {"name": f"any-{core.name.replace('+', 'plus')}", "core": core.name}))


def measured_rows(subject: Subject) -> Iterator[tuple[str, FirmwareMeasurement]]:
    for name in MEASURED_CORES:
        device = roomy_device(CORES[name])
        found = measure_firmware(subject.model, device, subject.inputs, subject.expected, plan=subject.plan)
        print(f"{subject.name} {name}: {found}", file=sys.stderr)
        yield name, found


def main_table(found: dict[str, dict[str, FirmwareMeasurement]], tested: list[Subject]) -> list[str]:
    head = "model | core (board) | flash B | RAM B | of it stack | instructions | per MAC | bit-exact"
    lines = [f"| {head} | predicted flash, RAM |", "|" + "---|" * 9]
    for subject in tested:
        for core, row in found[subject.name].items():
            predicted = predict_firmware(subject.model, core, subject.plan)
            flash, ram = predicted.flash / row.flash_firmware - 1, predicted.ram / row.sram_firmware - 1
            lines.append(
                f"| {subject.name} | {core} ({row.board}) | {row.flash_firmware:,} | {row.sram_firmware:,} "
                f"| {row.stack} | {row.instructions:,} | {row.instructions_per_mac or 0:.2f} "
                f"| {'yes' if row.bit_exact else 'NO'} | {flash:+.2%}, {ram:+.2%} |"
            )
    return lines


def layer_table(subject: Subject, row: FirmwareMeasurement) -> list[str]:
    lines = ["| layer | input | kernel | output | MACs | instructions | per MAC |", "|---|---|---|---|---|---|---|"]
    for call, instructions in zip(calls_of(subject.model), row.layers, strict=True):
        tensors = subject.model.tensors
        source, target = tensors[call.inputs[0]].shape[1:], tensors[call.output].shape[1:]
        kernel = f"{call.fields['kernel_h']}x{call.fields['kernel_w']}" if "kernel_h" in call.fields else ""
        ratio = f"{instructions / call.macs:.2f}" if call.macs else ""
        shapes = f"{'x'.join(map(str, source))} | {kernel} | {'x'.join(map(str, target))}"
        lines.append(f"| {call.kind} | {shapes} | {call.macs:,} | {instructions:,} | {ratio} |")
    return lines


def single_layers() -> Iterator[tuple[str, Int8Model]]:
    """Convolutions alone, as networks for these cores have them."""

    def layer(height: int, width: int, channels: int, made: int, kernel: tuple[int, int], step: int = 1) -> Int8Model:
        net = RandomNet(np.random.default_rng(0))
        source = net.input(height, width, channels)
        depthwise = made == 0
        return net.model(
            net.depthwise(source, kernel, (step, step)) if depthwise else net.conv(source, made, kernel, (step, step))
        )

    for size, channels in ((16, 16), (16, 17), (16, 32), (8, 64), (32, 16)):
        yield f"3x3, {size}x{size}, {channels} to {channels}", layer(size, size, channels, channels, (3, 3))
    yield "1x1, 25x5, 64 to 64", layer(25, 5, 64, 64, (1, 1))
    yield "1x1, 16x16, 16 to 24", layer(16, 16, 16, 24, (1, 1))
    yield "1x1, 8x8, 24 to 96", layer(8, 8, 24, 96, (1, 1))
    yield "1x1, 8x8, 17 to 19", layer(8, 8, 17, 19, (1, 1))
    yield "1x1 stride 2, 32x32, 16 to 32", layer(32, 32, 16, 32, (1, 1), 2)
    yield "first: 3x3, 32x32, 3 to 16", layer(32, 32, 3, 16, (3, 3))
    yield "first: 3x3 stride 2, 16x16, 3 to 16", layer(16, 16, 3, 16, (3, 3), 2)
    yield "first: 10x4 stride 2, 49x10, 1 to 64", layer(49, 10, 1, 64, (10, 4), 2)
    yield "first: 3x3, 28x28, 1 to 8", layer(28, 28, 1, 8, (3, 3))
    yield "first: 5x5, 16x16, 3 to 8", layer(16, 16, 3, 8, (5, 5))
    yield "first: 7x7 stride 2, 32x32, 3 to 16", layer(32, 32, 3, 16, (7, 7), 2)
    yield "first: 80x1 stride 4, 640x1, 1 to 16", layer(640, 1, 1, 16, (80, 1), 4)
    yield "depthwise 3x3, 25x5, 64", layer(25, 5, 64, 0, (3, 3))
    yield "depthwise 3x3, 16x16, 17", layer(16, 16, 17, 0, (3, 3))
    yield "depthwise 3x3 stride 2, 16x16, 24", layer(16, 16, 24, 0, (3, 3), 2)
    yield "depthwise 5x5, 16x16, 16", layer(16, 16, 16, 0, (5, 5))
    for channels in (1, 2, 3, 4, 5, 9):
        yield f"depthwise 3x3, 10x10, {channels}", layer(10, 10, channels, 0, (3, 3))
    for channels, made in ((1, 3), (1, 8), (3, 3), (5, 3), (7, 8)):
        yield f"1x1, 10x10, {channels} to {made}", layer(10, 10, channels, made, (1, 1))
    for channels, made in ((2, 3), (5, 8), (7, 3)):
        yield f"3x3, 10x10, {channels} to {made}", layer(10, 10, channels, made, (3, 3))


def layer_alone_table() -> list[str]:
    """Instructions per MAC of single layers, ours and CMSIS-NN's, on cores with DSP and with vector instructions."""
    cores = [CORES[name] for name in COMPARED_CORES]
    head = " | ".join(f"{core.name}: ours | CMSIS-NN | CMSIS-NN / ours" for core in cores)
    lines = [f"| layer, SAME padding | MACs | {head} |", "|" + "---|" * (2 + 3 * len(cores))]
    for name, model in single_layers():
        subject, macs = subject_of(name, model, write_tflite(model)), model.macs()
        cells = []
        for core in cores:
            ours = measure_firmware(model, roomy_device(core), subject.inputs, subject.expected, plan=subject.plan)
            if not ours.bit_exact:
                raise SystemExit(f"{name}: not bit-exact")
            theirs = cmsis_layer(subject, core)
            note = "" if theirs is None or theirs.bit_exact else " (not bit-exact)"
            other = (
                f"{theirs.instructions / macs:.2f}{note} | {theirs.instructions / ours.instructions:.2f}"
                if theirs
                else "not run |"
            )
            cells.append(f"{ours.instructions / macs:.2f} | {other}")
        lines.append(f"| {name} | {macs:,} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr)
    return lines


def cmsis_layer(subject: Subject, core: Core) -> CmsisRun | None:
    if bakenn_version() is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        write_project(
            subject.model,
            Path(folder),
            samples=subject.inputs,
            expected=subject.expected,
            plan=subject.plan,
        )
        return run_cmsis_layer(Path(folder), subject.model, core)


def cmsis(subject: Subject) -> CmsisRun | str:
    if bakenn_version() is None:
        return "bakenn is not installed"
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        write_project(subject.model, project, samples=subject.inputs, expected=subject.expected, plan=subject.plan)
        return run_cmsis(project, subject.model, subject.data)


def theirs_text(run: CmsisRun | str, macs: int) -> str:
    if isinstance(run, str):
        return f"{run} | |"
    note = "" if run.bit_exact else " (not bit-exact)"
    return f"{run.instructions:,}{note} | {run.instructions / macs:.2f} | {run.accelerated} of {run.layers}"


def cmsis_table(tested: list[Subject], found: dict[str, dict[str, FirmwareMeasurement]]) -> list[str]:
    lines = ["| model | ours | per MAC | CMSIS-NN | per MAC | layers in CMSIS-NN |", "|" + "---|" * 6]
    for subject in tested:
        ours, macs = found[subject.name]["cortex-m4f"], subject.model.macs()
        theirs = theirs_text(cmsis(subject), macs)
        lines.append(f"| {subject.name} | {ours.instructions:,} | {ours.instructions / macs:.2f} | {theirs} |")
    return lines


def report(tested: list[Subject], command: str) -> str:
    found = {subject.name: dict(measured_rows(subject)) for subject in tested}
    reference = "TensorFlow Lite Micro's interpreter" if tflm.available() else "the reference interpreter"
    lines = [
        "# Firmware: the C program on every emulated core",
        "",
        f"Made by `{command}`. Compiled by GCC at -O2, run in QEMU, which counts",
        "instructions and models neither cycles nor caches. Every output value of "
        f"{SAMPLES} random inputs is compared with {reference}.",
        "Flash holds vector table (Arm), start-up, kernels, weights and tables; RAM the arena and the deepest stack.",
        "M0+ code too large for the micro:bit runs on a Cortex-M3 board with unaligned accesses trapped: the same",
        "instructions execute; riscv32imac executes those of riscv32imc. The last column is the error of the",
        "prediction made from shapes alone. Layers run on whole maps here, not strip by strip (firmware_strips.md).",
        "",
        *main_table(found, tested),
    ]
    for subject in tested:
        lines += ["", f"## {subject.name} on the Cortex-M4, layer by layer", ""]
        lines += layer_table(subject, found[subject.name]["cortex-m4f"])
    version = bakenn_version()
    if version is not None:
        lines += ["", "## Beside CMSIS-NN on the Cortex-M4", ""]
        lines += [
            f"CMSIS-NN 4.0 as bakenn {version} calls it; same compiler, flags and self test. Layers without",
            "a CMSIS-NN kernel run its portable C, so only rows where all layers are CMSIS-NN's compare the kernels.",
            "",
        ]
        lines += cmsis_table(tested, found)
    alone = [
        "",
        "## Layers alone",
        "",
        "Instructions per MAC. CMSIS-NN 4.0 is called directly, with the scratch memory it asks for. Of our",
        f"kernels only that of first layers copies windows, to the stack: {COLUMN} bytes a position, for one, two or",
        "four positions.",
        "",
    ]
    return "\n".join([*lines, *alone, *layer_alone_table(), "", *VECTOR_BOUND, ""])


def code_sizes() -> None:
    """Print the lines of ``COMPILERS`` and ``CODE`` in mcu/firmware/code_sizes.py."""
    model = every_operator_net()
    plan = plan_memory(model, by_strips=False)
    with tempfile.TemporaryDirectory() as folder:
        write_project(model, Path(folder), plan=plan)
        for item in ARCHITECTURES:
            print(f'    "{item.name}": "{toolchain(item).version()}",')
        for core in CORES.values():
            tools = toolchain(core.architecture)
            built = build(Path(folder), roomy_device(core), tools)
            code = measure_code(built, constant_bytes(model, plan, core.architecture), tools)
            figures = ", ".join(f"{kernel.flash}, {kernel.stack}" for kernel in code.kernels.values())
            library = f",\n        library={tuple(code.library.values())}" if code.library else ""
            print(f'    "{core.name}": _core(\n        {code.base}, {code.stack},\n        {figures}{library}),')
            if code.called:
                print("called:", {kernel: parts for kernel, parts in code.called.items() if parts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results/mcu/firmware.md"))
    parser.add_argument("--code-sizes", action="store_true")
    arguments = parser.parse_args()
    missing = [advice for item in ARCHITECTURES if (advice := toolchain(item).advice())]
    if missing:
        raise SystemExit("\n".join(missing))
    if arguments.code_sizes:
        code_sizes()
        return
    command = " ".join(["python benchmarks/mcu/firmware.py", *(path.name for path in arguments.files)])
    text = report(subjects(arguments.files), command)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
