"""What a budget bounds: the file and arena of TensorFlow Lite Micro, or our own C program."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcu.budget import Resources
from mcu.cost.arena import BYTES_PER_CHANNEL, lifetimes, peak_live, predict_persistent
from mcu.cost.deployment import predict_deployment
from mcu.devices import Device, find_device, require_interpreter
from mcu.errors import InputError
from mcu.firmware import ToolsMissing, build, core_of, predict_firmware, write_project
from mcu.firmware.front_end_run import measure_front_end
from mcu.front_end import FrontEnd
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure
from mcu.measure import measure_model
from mcu.terms import RuntimeName
from mcu.tflite.flatbuffer_size import predict_flash

LINKER_SLACK, STACK_SLACK = 64, 16
"""Bytes added to the predicted flash and RAM of firmware, so that what a budget admits fits: the compiler's choice of
registers moves the linked size and the stack by a few bytes."""


@dataclass(frozen=True)
class Runtime:
    """A runtime, on a device where it matters.

    Attributes:
        front_end: what the C program computes before the network, if that counts as well.

    Raises:
        InputError: if firmware is asked for without a device, or for one it cannot be built for, or TensorFlow Lite
            Micro for a device that it does not run on.
    """

    name: RuntimeName = RuntimeName.TFLM
    device: str | None = None
    front_end: FrontEnd | None = None

    def __post_init__(self) -> None:
        if self.name is RuntimeName.FIRMWARE:
            core_of(self._device())
        elif self.device is not None:
            require_interpreter(self._device())

    def _device(self) -> Device:
        if self.device is None:
            raise InputError("[budgets] runtime = 'firmware': the budgets name no device; allowed with devices = [...]")
        return find_device(self.device)

    def before(self) -> tuple[int, int]:
        """Bytes of flash and SRAM of the front end, measured by the linker; 0 if it does not count.

        Raises:
            InputError: if the tools to measure it are missing.
        """
        if self.front_end is None or self.name is not RuntimeName.FIRMWARE:
            return 0, 0
        cost = measure_front_end(self.front_end, core_of(self._device()))
        return cost.flash, cost.ram

    @property
    def sram_per_channel(self) -> int:
        """Bytes of persistent SRAM per output channel of a convolution, besides its activations."""
        return BYTES_PER_CHANNEL if self.name is RuntimeName.TFLM else 0

    def floor(self, structure: Structure) -> tuple[int, int]:
        """A lower bound on ``predict`` (bytes of flash and SRAM) that is cheaper to compute.

        A subclass that overrides ``predict`` must override this: landing rejects widths whose floor is above a bound.
        """
        if self.name is RuntimeName.FIRMWARE:
            return self.before()
        return predict_flash(structure), peak_live(lifetimes(structure)) + predict_persistent(structure)

    def predict(self, structure: Structure) -> tuple[int, int]:
        """Bytes of flash and SRAM the model will take."""
        if self.name is RuntimeName.FIRMWARE:
            firmware, (flash, ram) = predict_firmware(structure, core_of(self._device()).name), self.before()
            return flash + firmware.flash + LINKER_SLACK, ram + firmware.ram + STACK_SLACK
        deployed = predict_deployment(structure)
        return deployed.flash, deployed.arena.total

    def measure(self, model: Int8Model, data: bytes) -> Resources:
        """Resources of the finished model: measured by the interpreter or the linker (predicted without its tools)."""
        if self.name is RuntimeName.TFLM:
            measured = measure_model(data)
            return Resources(measured.flash, measured.sram, measured.macs)
        flash, ram = self.before()
        try:
            with tempfile.TemporaryDirectory() as scratch:
                project = Path(scratch) / "firmware"
                write_project(model, project)
                built = build(project, self._device())
            return Resources(flash + built.flash, ram + built.ram_static + built.stack, model.macs())
        except ToolsMissing:
            firmware = predict_firmware(model, core_of(self._device()).name)
            return Resources(flash + firmware.flash, ram + firmware.ram, model.macs())
