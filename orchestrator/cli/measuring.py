"""``measure``: an int8 .tflite file from any tool; with ``--port`` a board that runs one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.board import BAUD
from mcu.errors import InputError
from orchestrator.cli.options import STORAGE, DeviceOption, FormatName, Storage, StudyName

if TYPE_CHECKING:
    from mcu.devices import Device
    from mcu.firmware import PlanChoice
    from mcu.int8.model import Int8Model
    from mcu.latency import Latency
    from mcu.measure import Measurement

ModelFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL.tflite]", show_default=False,
        help="An int8 model; with --port also a trial, such as 12 or STUDY#12, or nothing: what the board runs.",
    ),
]  # fmt: skip
Port = Annotated[
    str | None,
    typer.Option("--port", metavar="DEVICE", help="Time the self test of an exported library on a board, there."),
]
Baud = Annotated[int, typer.Option("--baud", metavar="RATE", min=300, max=4_000_000, help="Of the serial line.")]
Runs = Annotated[int | None, typer.Option("--runs", metavar="N", help="Timed inferences; by default about a second.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest inference on the board.")]
WithFirmware = Annotated[bool, typer.Option("--firmware", help="Also build our C program and run it in QEMU.")]
FigureFile = Annotated[
    Path | None, typer.Option("--figure", metavar="FILE", help="Draw memory over time (.png, .svg or .pdf).")
]

FIRMWARE_SAMPLES = 3
FIGURE_TYPES = (".png", ".svg", ".pdf")
LONGEST_NAME = 40
"""Characters of a layer's name below a bar."""


def measure(
    model: ModelFile = None,
    device: DeviceOption = None,
    firmware: WithFirmware = False,
    figure: FigureFile = None,
    port: Port = None,
    baud: Baud = BAUD,
    runs: Runs = None,
    timeout: Timeout = 60.0,
    study: StudyName = None,
    storage: Storage = STORAGE,
    format_name: FormatName = "table",
) -> None:
    """Measure an int8 .tflite file: flash, TFLM arena, MACs, every layer; with a device, whether it fits.

    With --port a board's latency, which is stored beside the model of its trial.
    """
    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    if port is not None:
        from orchestrator.cli.board import BoardOptions, measure_board, print_board

        if firmware or figure is not None:
            raise InputError("--port measures on a board: --firmware and --figure are for a file")
        options = BoardOptions(port, baud, runs, timeout, device, study, storage)
        print_board(measure_board(model, options), format_name)
        return
    if model is None:
        raise InputError("MODEL.tflite is missing; without one measure needs --port DEVICE")
    _measure_file(Path(model), device, firmware, figure, format_name)


def _measure_file(model: Path, device: str | None, firmware: bool, figure: Path | None, format_name: str) -> None:
    if figure is not None and figure.suffix not in FIGURE_TYPES:
        raise InputError(f"--figure {figure}: must end in {', '.join(FIGURE_TYPES)}")
    try:
        data = model.read_bytes()
    except OSError as error:
        raise InputError(f"{model}: cannot be read: {error.strerror}") from None
    from mcu.measure import measure_model

    measured = measure_model(data, str(model))
    answer = facts(measured, device)
    if firmware:
        answer |= firmware_facts(data, str(model), device)
    elif device is not None:
        answer |= firmware_predicted(data, str(model), device)
    if figure is not None:
        _draw(measured, figure)
    layers = [
        {
            "layer": layer.name, "kind": str(layer.kind), "output": "x".join(map(str, layer.output_shape[1:])),
            "weights": layer.weights, "macs": layer.macs, "live": layer.live,
        }
        for layer in measured.layers
    ]  # fmt: skip
    if format_name == "json":
        print(json.dumps(answer | {"layers": layers}, indent=2))
        return
    from orchestrator.tables import Format, human, write_rows

    for name, value in answer.items():
        print(f"{name:20} {human(name, value)}")
    write_rows(("layer", "kind", "output", "weights", "macs", "live"), layers, Format.TABLE)
    if not measured.measured:
        print("sram is predicted: tflite-micro is not installed here")


def facts(measured: Measurement, device: str | None) -> dict[str, Any]:
    """Resources of a model, and, with a device, of how much of its limits they use."""
    from mcu.budget import Resources
    from mcu.devices import find_device

    answer: dict[str, Any] = {
        "flash": measured.flash,
        "sram": measured.sram,
        "sram_activations": measured.sram_activations,
        "macs": measured.macs,
        "measured": measured.measured,
    }
    if device is not None:
        room = find_device(device)
        budget = room.budget()
        used = Resources(measured.flash, measured.sram, measured.macs)
        answer |= {"device": room.name, "budget_flash": budget.flash, "budget_sram": budget.sram}
        if not room.firmware_only:
            answer |= {"feasible": budget.admits(used), "binding_use": budget.binding_use(used)}
    return answer


def firmware_facts(data: bytes, source: str, device: str | None) -> dict[str, Any]:
    """Our C program on the device: size, stack, instructions, and whether it is bit-exact with the interpreter."""
    if device is None:
        raise InputError("--firmware needs --device NAME: the core to build for")
    import numpy as np

    from mcu.devices import find_device
    from mcu.firmware import measure_firmware
    from mcu.tflite import apart, tflm
    from mcu.tflite.reader import read_tflite

    model = read_tflite(data, source)
    rng, shapes = np.random.default_rng(0), [model.tensors[port.tensor].shape[1:] for port in model.inputs]
    samples = [rng.integers(-128, 128, (FIRMWARE_SAMPLES, *shape), dtype=np.int8) for shape in shapes]
    expected = apart.invoke(data, samples, source) if tflm.available() else None
    choice = _choice(model, find_device(device))
    ran = measure_firmware(model, find_device(device), samples, expected, plan=choice.plan)
    return {
        "flash_firmware": ran.flash_firmware,
        "sram_firmware": ran.sram_firmware,
        "stack": ran.stack,
        "instructions": ran.instructions,
        "instructions_per_mac": ran.instructions_per_mac,
        **_latency(ran.latency),
        "bit_exact": ran.bit_exact,
        "board": ran.board,
        "plan": choice.told(),
    }


def _choice(model: Int8Model, device: Device) -> PlanChoice:
    """What firmware runs strip by strip: of what is within the device's limits, less its reserve, the fastest."""
    from mcu.firmware import choose_plan

    return choose_plan(model, device.core, device.budget())


def firmware_predicted(data: bytes, source: str, device: str) -> dict[str, Any]:
    """The same from tables, without the tools; empty where firmware cannot be built for the device or the model."""
    from mcu.devices import find_device
    from mcu.firmware import core_of, predict_instructions
    from mcu.latency import estimate
    from mcu.tflite.reader import read_tflite

    target = find_device(device)
    try:
        core, model = core_of(target), read_tflite(data, source)
        choice = _choice(model, target)
        instructions = predict_instructions(model, core, choice.plan)
    except InputError:
        return {}
    return {
        "flash_firmware_predicted": choice.chosen.flash,
        "sram_firmware_predicted": choice.chosen.ram,
        "instructions_predicted": instructions,
        "plan": choice.told(),
        **_latency(estimate(instructions, core.cycles, target.clock_hz)),
    }


def _latency(found: Latency) -> dict[str, Any]:
    return {"latency_ms": found.middle, "latency": found.told(), "latency_origin": found.origin}


def _draw(measured: Measurement, path: Path) -> None:
    """Live bytes of activations while each layer runs."""
    from orchestrator.tables import write_output
    from reports.figures.style import PALETTE, SOFT, Style, encode, new_figure, styled

    names = [layer.name for layer in measured.layers]
    with styled(Style.PAPER):
        figure = new_figure(max(5.0, 0.42 * len(names)), 3.6)
        axes = figure.add_subplot()
        peak = max(layer.live for layer in measured.layers)
        colours = [PALETTE[1] if layer.live == peak else PALETTE[0] for layer in measured.layers]
        axes.bar(range(len(names)), [layer.live / 1024 for layer in measured.layers], width=0.85, color=colours)
        axes.axhline(measured.sram / 1024, color=SOFT, linestyle="--", linewidth=1)
        word = "measured" if measured.measured else "predicted"
        axes.annotate(f"arena, {word}", (len(names) - 0.5, measured.sram / 1024), ha="right", va="bottom")
        axes.set_xticks(range(len(names)), [_shown(name) for name in names], rotation=60, ha="right")
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("live activations, KB")
        kind = path.suffix[1:]
        drawn = encode(figure, (kind,), dpi=160)[kind]
    write_output(path, drawn, "--figure")


def _shown(name: str) -> str:
    """The end of a name, which says most: converters join the paths of all layers that were fused."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


COMMANDS = (measure,)
