"""Firmware whose layers run strip by strip beside the same on whole maps, and beside patches.

Run: python benchmarks/mcu/firmware_strips.py docs/results/mcu/firmware_strips.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from firmware import roomy_device

from mcu.cost.arena import peak_live
from mcu.cost.chain import Chain, spans_of, stages_of
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory
from mcu.cost.stage import Strips, heights_of
from mcu.firmware import (
    CORES,
    FirmwareMeasurement,
    choose_plan,
    measure_firmware,
    predict_firmware,
    predict_instructions,
)
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.int8.structure import CONVOLUTIONS, OpForm, Structure, structure_of
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

Area = tuple[int, int, int, int]
"""Rows and columns ``[top, bottom) x [left, right)``."""

PATCHES = (1, 2, 3, 4, 6, 8, 12)
FEW = 0.1


@dataclass(frozen=True)
class Subject:
    """A network and the cores that it is measured on."""

    title: str
    network: NetworkChoice
    shape: tuple[int, int, int]
    cores: tuple[str, ...] = ("cortex-m4f",)


SUBJECTS = (
    Subject(
        "mobilenet-v2 x0.35, 96x96x3", NetworkChoice(name="mobilenet-v2", width=0.35), (3, 96, 96),
        ("cortex-m0+", "cortex-m4f", "cortex-m55", "riscv32imc"),
    ),
    Subject("mobilenet-v2 x0.5, 96x96x3", NetworkChoice(name="mobilenet-v2", width=0.5), (3, 96, 96)),
    Subject("mobilenet-v2, 96x96x3", NetworkChoice(name="mobilenet-v2"), (3, 96, 96)),
    Subject("mobilenet-v1 x0.25, 96x96x1", NetworkChoice(name="mobilenet-v1", width=0.25), (1, 96, 96)),
    Subject("mobilenet-v1 x0.5, 96x96x3", NetworkChoice(name="mobilenet-v1", width=0.5), (3, 96, 96)),
    Subject("vgg-small, 32x32x3", NetworkChoice(name="vgg-small"), (3, 32, 32)),
    Subject("resnet8, 32x32x3", NetworkChoice(name="resnet8"), (3, 32, 32), ("cortex-m4f", "cortex-m55")),
    Subject("ds-cnn, 49x10x1", NetworkChoice(name="ds-cnn"), (1, 49, 10)),
)  # fmt: skip


def model_of(subject: Subject) -> Int8Model:
    """The network with random weights in int8."""
    torch.manual_seed(0)
    traced = trace(build_network(subject.network, subject.shape, 10, 0).eval(), subject.shape)
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, torch.as_tensor(np.random.default_rng(0).normal(size=(8, *subject.shape)), dtype=torch.float32))
    return quantise(network)


def rows(subject: Subject, model: Int8Model) -> list[str]:
    shape = model.tensors[model.input].shape[1:]
    inputs = np.random.default_rng(1).integers(-128, 128, (2, *shape)).astype(np.int8)
    expected = tflm.run(write_tflite(model), inputs) if tflm.available() else ReferenceInterpreter(model).run(inputs)
    found = []
    for name in subject.cores:
        device = roomy_device(CORES[name])
        chosen = choose_plan(model, name).plan
        plans = (plan_memory(model, by_strips=False), chosen)
        whole, strips = (measure_firmware(model, device, inputs, expected, plan=plan) for plan in plans)
        print(subject.title, name, whole, strips, file=sys.stderr, flush=True)
        found.append(row(subject.title, name, model, chosen, whole, strips))
    return found


def row(
    title: str, core: str, model: Int8Model, plan: FirmwarePlan, whole: FirmwareMeasurement, strips: FirmwareMeasurement
) -> str:
    predicted = predict_firmware(model, core, plan)
    errors = (
        predicted.flash / strips.flash_firmware - 1,
        predicted.ram / strips.sram_firmware - 1,
        predict_instructions(model, CORES[core], plan) / strips.instructions - 1,
    )
    exact = "yes" if whole.bit_exact and strips.bit_exact else "NO"
    return (
        f"| {title} | {core} | {plan.strips or 'whole maps'} "
        f"| {whole.sram_firmware:,} | {strips.sram_firmware:,} "
        f"| {strips.sram_firmware / whole.sram_firmware:.2f} | {strips.flash_firmware - whole.flash_firmware:+,} "
        f"| {whole.instructions:,} | {strips.instructions / whole.instructions - 1:+.1%} | {exact} "
        f"| {', '.join(f'{error:+.2%}' for error in errors)} |"
    )


def areas(structure: Structure, strips: Strips, patch: Area) -> dict[int, Area]:
    """What a patch of a stage's output needs of every tensor: each row and column as ``_rows_read`` of the stage."""
    needed = {strips.output: patch}
    for index in reversed(range(strips.stage.first, strips.stage.end)):
        op = structure.ops[index]
        top, bottom, left, right = needed[op.output]
        for tensor in op.inputs:
            _, height, width, _ = structure.shapes[tensor]
            new = (*reach(op, 0, top, bottom, height), *reach(op, 1, left, right, width))
            old = needed.get(tensor, new)
            pairs = zip(new, old, (min, max, min, max), strict=True)
            needed[tensor] = tuple(pick(a, b) for a, b, pick in pairs)  # type: ignore[assignment]
    return needed


def reach(op: OpForm, axis: int, low: int, high: int, size: int) -> tuple[int, int]:
    start = low * op.stride[axis] - op.padding[axis][0]
    end = (high - 1) * op.stride[axis] - op.padding[axis][0] + (op.kernel[axis] - 1) * op.dilation[axis] + 1
    return max(start, 0), min(end, size)


def patched(structure: Structure, strips: Strips, height: int, width: int) -> tuple[int, int]:
    """Peak bytes and MACs of a stage that runs by patches of its output and computes again what they share."""
    stage, inside = strips.stage, set(strips.tensors())
    _, rows, columns, _ = structure.shapes[strips.output]
    spans = spans_of(structure.ops, heights_of(structure), [port.tensor for port in structure.outputs], None)
    peak = macs = 0
    for top, left in product(range(0, rows, height), range(0, columns, width)):
        needed = areas(structure, strips, (top, min(top + height, rows), left, min(left + width, columns)))
        sizes = {t: (b - a) * (d - c) * structure.shapes[t][3] for t, (a, b, c, d) in needed.items()}
        peak = max(peak, peak_live([(sizes[t], *spans[t][1:]) for t in inside]))
        for op in structure.ops[stage.first : stage.end]:
            if op.kind in CONVOLUTIONS:
                macs += int(np.prod(structure.weight_shape(op))) * sizes[op.output] // structure.shapes[op.output][3]
    return peak, macs


def patches_row(title: str, structure: Structure) -> str:
    """The least memory of patches, with few MACs more and with any."""
    least: dict[bool, tuple[int, float]] = {}
    outputs = [port.tensor for port in structure.outputs]
    stages = stages_of(structure)
    for strips in stages.strips:
        if strips.stage.rows > 1 or strips.stage.first > stages.front:
            continue
        spans = spans_of(structure.ops, heights_of(structure), outputs, Chain((strips,)))
        bytes_of = [
            0 if t in set(strips.tensors()) else int(np.prod(shape)) for t, shape in enumerate(structure.shapes)
        ]
        beside = [(size, *span[1:]) for size, span in zip(bytes_of, spans, strict=True)]
        during = max(
            sum(size for size, first, last in beside if first <= step <= last)
            for step in range(strips.stage.first + 1, strips.stage.end + 1)
        )
        _, rows, columns, _ = structure.shapes[strips.output]
        own = Structure(structure.shapes, structure.ops[strips.stage.first : strips.stage.end], (), ()).macs()
        for size in (size for size in PATCHES if size < rows):
            peak, macs = patched(structure, strips, size, min(size, columns))
            more = (macs - own) / structure.macs()
            found = (max(peak_live(beside), during + peak), more)
            for few in {False, more <= FEW}:
                least[few] = min(least.get(few, found), found)
    plan, whole = plan_memory(structure), plan_memory(structure, by_strips=False)
    one = plan_memory(structure, several=False)
    cells = [f"{least[few][0]:,} | {least[few][1]:+.0%}" if few in least else "none |" for few in (True, False)]
    return f"| {title} | {whole.total:,} | {one.total:,} | {plan.total:,} | {plan.strips or ''} | {' | '.join(cells)} |"


def main() -> None:
    measured, planned = [], []
    for subject in SUBJECTS:
        model = model_of(subject)
        measured += rows(subject, model)
        planned.append(patches_row(subject.title, structure_of(model)))
        print(planned[-1], file=sys.stderr, flush=True)
    reference = "TensorFlow Lite Micro's interpreter" if tflm.available() else "the reference interpreter"
    lines = [
        "# Firmware strip by strip",
        "",
        "Command: `python benchmarks/mcu/firmware_strips.py docs/results/mcu/firmware_strips.md`",
        "",
        "Stages of a network's layers can make a few rows each before they make the next ones; which do, and with how",
        "many rows, is chosen for network and core as without a bound of RAM: 1 % more instructions have to save about",
        "5 % of RAM and additional flash. Within a bound it is the fastest plan (how-to/firmware.md).",
        "Nothing is computed twice: the MACs are those of whole maps. Networks with random weights, for 10 classes.",
        "RAM is the arena and the deepest stack of the linked program, instructions are the emulator's; every output",
        f"of two random inputs is compared with {reference}. The last column is the error of the prediction.",
        "",
        "| network | core | chosen | RAM, whole maps | RAM, chosen | ratio | flash | instructions, whole maps | chosen "
        "| bit-exact | predicted flash, RAM, instructions |",
        "|" + "---|" * 11,
        *measured,
        "",
        "## Beside patches",
        "",
        "Bytes of activations. Patches are squares of the output of any stage at the front, 1 to 12 positions wide,",
        "each computed with all that it needs of the layers before (MCUNetV2): the least memory with at most 10 % more",
        "MACs in the network, and with any number. Strips keep the rows that the next one needs again: no more MACs;",
        "with one stage at the front of the network, and with as many as are worth it.",
        "",
        "| network | whole maps | one stage | strips | of least RAM and flash | patches, at most 10 % more MACs | MACs "
        "| patches, any | MACs |",
        "|" + "---|" * 9,
        *planned,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
