"""Firmware of small int8 models on AVRs: flash, RAM, stack, cycles, bit-exactness, prediction; writes a table.

    OMP_NUM_THREADS=1 python benchmarks/mcu/firmware_avr.py [--output docs/results/mcu/firmware_avr.md]

The models have random weights and fit an ATmega328P; each is linked for the real memory of both parts.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mcu.devices import Device, find_device
from mcu.firmware import choose_plan, core_of, measure_firmware, predict_firmware, predict_instructions
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from random_nets import RandomNet

DEVICES = ("atmega328p", "atmega2560")
SAMPLES = 3


def models() -> Iterator[tuple[str, Int8Model]]:
    """Networks of a few hundred bytes of activations."""
    net = RandomNet(np.random.default_rng(0))
    x = net.conv(net.conv(net.input(14, 14, 1), 14, (3, 3), (3, 3)), 28, (3, 3), (2, 2))
    yield "digits 14x14, 3 convolutions", net.model(_head(net, net.conv(x, 48, (3, 3), (2, 2)), 10))
    net = RandomNet(np.random.default_rng(1))
    x = net.conv(net.input(16, 16, 1), 8, (3, 3), (2, 2))
    for channels in (12, 16):
        x = net.conv(net.depthwise(x, (3, 3), (2, 2)), channels, (1, 1))
    yield "separable 16x16", net.model(_head(net, x, 4))
    net = RandomNet(np.random.default_rng(2))
    x = net.conv(net.input(64, 1, 3), 8, (5, 1), (2, 1))
    x = net.conv(net.pool(x, Kind.MAX_POOL, (2, 1), (2, 1)), 12, (5, 1), (2, 1))
    yield "motion 64x3, along time", net.model(_head(net, net.conv(x, 16, (3, 1)), 5))
    net = RandomNet(np.random.default_rng(3))
    x = net.conv(net.input(10, 10, 3), 8, (3, 3), (2, 2))
    x = net.add(x, net.conv(net.conv(x, 8), 8))
    yield "residual 10x10x3", net.model(_head(net, x, 6))


def _head(net: RandomNet, x: int, classes: int) -> int:
    channels = net.tensors[x].shape[-1]
    return net.softmax(net.dense(net.reshape(net.mean(x), (1, channels)), classes))


def row(name: str, model: Int8Model, device: Device) -> str:
    x = np.random.default_rng(1).integers(-128, 128, (SAMPLES, *model.tensors[model.input].shape[1:])).astype(np.int8)
    expected = tflm.run(write_tflite(model), x, name) if tflm.available() else ReferenceInterpreter(model).run(x)
    plan = choose_plan(model).plan
    found, core = measure_firmware(model, device, x, expected), core_of(device)
    predicted = predict_firmware(model, core.name, plan)
    pairs = (
        (predicted.flash, found.flash_firmware),
        (predicted.ram, found.sram_firmware),
        (predict_instructions(model, core, plan), found.instructions),
    )
    errors = ", ".join(f"{guess / actual - 1:+.2%}" for guess, actual in pairs)
    return (
        f"| {name} | {device.name} ({found.board}) | {model.macs():,} | {found.flash_firmware:,} "
        f"| {found.sram_firmware:,} | {found.stack} | {found.stack_measured} | {found.instructions:,} "
        f"| {found.instructions_per_mac or 0:.0f} | {found.latency.text()} | {'yes' if found.bit_exact else 'NO'} "
        f"| {errors} |"
    )


def fill(text: str) -> list[str]:
    """The lines of a paragraph."""
    return textwrap.wrap(" ".join(text.split()), 120)


def report() -> str:
    reference = "TensorFlow Lite Micro's interpreter" if tflm.available() else "the reference interpreter"
    head = "model | part (board) | MACs | flash B | RAM B | of it stack | stack touched | cycles | per MAC | at 16 MHz"
    lines = [
        "# Firmware on AVRs",
        "",
        *fill(f"""Made by `python benchmarks/mcu/firmware_avr.py`. Compiled by avr-gcc at -O2, linked for the part's own
        flash and RAM, run in simavr, which counts cycles; an AVR has neither caches nor wait states. Every output value
        of {SAMPLES} random inputs is compared with {reference}. Flash holds the vector table, weights and tables, and
        code; RAM the arena, other variables and the deepest stack of the call graph. What the self test touches of its
        painted stack includes its own frames; where it has no room on the part itself it runs on an ATmega1284P, whose
        instructions take the same cycles. The last column is the error of the predictions."""),
        "",
        f"| {head} | bit-exact | predicted flash, RAM, cycles |",
        "|" + "---|" * 12,
    ]
    for name, model in models():
        for part in DEVICES:
            lines.append(row(name, model, find_device(part)))
            print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/results/mcu/firmware_avr.md"))
    arguments = parser.parse_args()
    arguments.output.write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
