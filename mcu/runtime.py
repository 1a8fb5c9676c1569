"""What a budget bounds: the file and arena of TensorFlow Lite Micro, or our own C program."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from math import inf
from pathlib import Path

from mcu.budget import Budget, Resources
from mcu.cost.arena import BYTES_PER_CHANNEL, lifetimes, peak_live, predict_persistent
from mcu.cost.deployment import predict_deployment
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory, plans_of
from mcu.devices import Device, find_device, require_interpreter
from mcu.errors import InputError
from mcu.firmware import PlanChoice, ToolsMissing, build, choose_plan, core_of, predict_firmware, write_project
from mcu.firmware.front_end_run import measure_front_end
from mcu.front_end import FrontEnd
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure
from mcu.measure import measure_model
from mcu.terms import RuntimeName
from mcu.tflite.flatbuffer_size import predict_flash

LINKER_SLACK, STACK_SLACK = 64, 16
"""Bytes added to the predicted flash and RAM of firmware, so that what a budget admits fits: the linked flash was up to
12 bytes more than predicted (docs/results/mcu/firmware_sizes.md)."""


@dataclass(frozen=True)
class Runtime:
    """A runtime, on a device where it matters.

    Attributes:
        front_end: what the C program computes before the network, if that counts as well.
        budget: bounds by which the plan of the C program is chosen: a model is within them if any plan of it is, and
            the fastest of these is built. Those of TensorFlow Lite Micro's arena bound its RAM too.

    Raises:
        InputError: if firmware is asked for without a device, or for one it cannot be built for, or TensorFlow Lite
            Micro for a device that it does not run on.
    """

    name: RuntimeName = RuntimeName.TFLM
    device: str | None = None
    front_end: FrontEnd | None = None
    budget: Budget | None = None

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
            return self._predict_firmware(structure)
        deployed = predict_deployment(structure)
        return deployed.flash, deployed.arena.total

    def _predict_firmware(self, structure: Structure) -> tuple[int, int]:
        """Of the smallest plan, or else of one within the bounds."""
        smallest = self._taken(structure, plan_memory(structure))
        bounds = self._bounds()
        if bounds.admits(Resources(*smallest, 0)) or sum(smallest) > (bounds.flash or inf) + (bounds.sram or inf):
            return smallest
        taken = (self._taken(structure, plan) for plan in plans_of(structure, bounds.sram))
        return next((found for found in taken if bounds.admits(Resources(*found, 0))), smallest)

    def _taken(self, structure: Structure, plan: FirmwarePlan) -> tuple[int, int]:
        firmware, (flash, ram) = predict_firmware(structure, core_of(self._device()).name, plan), self.before()
        return flash + firmware.flash + LINKER_SLACK, ram + firmware.ram + STACK_SLACK

    def _bounds(self) -> Budget:
        """Those on flash and RAM of the C program: the interpreter's file is no measure of its flash."""
        given = self.budget or Budget()
        return Budget(given.flash if self.name is RuntimeName.FIRMWARE else None, given.sram)

    def choose_plan(self, model: Int8Model) -> PlanChoice:
        """The plan of the model's C program; without a device for whatever core it may run on.

        Raises:
            InputError: if the kernels cannot express an operator, or the tools to measure a front end are missing.
        """
        bounds, (flash, ram) = self._bounds(), self.before()
        room = Budget(
            bounds.flash and max(bounds.flash - flash - LINKER_SLACK, 1),
            bounds.sram and max(bounds.sram - ram - STACK_SLACK, 1),
        )
        return choose_plan(model, find_device(self.device).core if self.device else None, room)

    def measure(self, model: Int8Model, data: bytes) -> Resources:
        """Resources of the finished model: measured by the interpreter or the linker (predicted without its tools)."""
        if self.name is RuntimeName.TFLM:
            measured = measure_model(data)
            return Resources(measured.flash, measured.sram, measured.macs)
        (flash, ram), choice = self.before(), self.choose_plan(model)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                project = Path(scratch) / "firmware"
                write_project(model, project, plan=choice.plan)
                built = build(project, self._device())
            return Resources(flash + built.flash, ram + built.ram_static + built.stack, model.macs())
        except ToolsMissing:
            return Resources(flash + choice.chosen.flash, ram + choice.chosen.ram, model.macs())
