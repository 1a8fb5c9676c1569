"""What a model costs as firmware on a device: built for it, linked into its memory, run in an emulator."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcu.cost.firmware_memory import FirmwarePlan
from mcu.devices import Device
from mcu.errors import InputError
from mcu.firmware.build import build
from mcu.firmware.cores import core_of
from mcu.firmware.emulator import run_in_emulator
from mcu.firmware.project import Codes, stream_macs, write_project
from mcu.firmware.toolchain import Toolchain, toolchain
from mcu.graph.ports import each
from mcu.int8.model import Int8Model
from mcu.latency import Latency, estimate


@dataclass(frozen=True)
class FirmwareMeasurement:
    """Bytes are those of the application linked for the device; instructions those that were
    executed in the emulator, or cycles where it counts these.

    Attributes:
        flash_firmware: vector table, code, weights and tables.
        sram_firmware: static RAM and stack.
        stack: deepest path of the call graph, part of ``sram_firmware``; interrupts come on top.
        stack_measured: what the emulated self test touched of its painted stack, its own frames included.
        instructions: per inference.
        instructions_per_mac: None for a model without multiply-accumulates.
        layers: instructions of each layer's kernel calls, in order.
        latency: estimated from the instructions.
        bit_exact: whether every output value equals the reference.
        board: emulated machine.
    """

    flash_firmware: int
    sram_firmware: int
    stack: int
    stack_measured: int
    instructions: int
    instructions_per_mac: float | None
    layers: tuple[int, ...]
    latency: Latency
    bit_exact: bool
    board: str


def measure_firmware(
    model: Int8Model,
    device: Device,
    samples: Codes,
    expected: Codes | None = None,
    *,
    folder: Path | None = None,
    tools: Toolchain | None = None,
    plan: FirmwarePlan | None = None,
    hop: int | None = None,
) -> FirmwareMeasurement:
    """Write, build, link and run a model.

    Args:
        samples: int8 ``(N, H, W, C)``: inputs to run; of several a tuple.
        expected: int8 outputs they must give, such as TFLM's; None compares with the reference interpreter.
        folder: where to keep the project; None throws it away.
        plan, hop: as in ``write_project``; of a stream the figures are those of a step.

    Raises:
        InputError: if firmware cannot be built for the device, tools are missing (``ToolsMissing``), the model holds
            what the kernels cannot express, or it does not fit the device (``FirmwareDoesNotFit``).
    """
    if len(each(samples)[0]) == 0:
        raise InputError("firmware measurement: no samples; at least one input is needed")
    core = core_of(device)
    tools = tools or toolchain(core.architecture)
    with tempfile.TemporaryDirectory() as scratch:
        project = folder or Path(scratch) / "firmware"
        write_project(model, project, samples=samples, expected=expected, plan=plan, hop=hop)
        built = build(project, device, tools)
        run = run_in_emulator(project, core, tools=tools)
        layers = run_in_emulator(project, core, profile=True, tools=tools).layers
    macs = model.macs() if hop is None else stream_macs(model, hop)
    return FirmwareMeasurement(
        flash_firmware=built.flash,
        sram_firmware=built.ram,
        stack=built.stack,
        stack_measured=run.stack,
        instructions=run.instructions,
        instructions_per_mac=run.instructions / macs if macs else None,
        layers=layers,
        latency=estimate(run.instructions, core.cycles, device.clock_hz),
        bit_exact=run.bit_exact,
        board=run.board,
    )
