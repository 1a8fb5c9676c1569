"""Firmware: an int8 model as a C program, built for a device, run in an emulator, predicted from shapes."""

from mcu.firmware.build import FirmwareBuild, FirmwareDoesNotFit, build
from mcu.firmware.cores import CORES, Board, Core, core_of, find_core, instructions_within, macs_within
from mcu.firmware.emulator import EmulatorRun, run_in_emulator
from mcu.firmware.instructions import predict_instructions
from mcu.firmware.library import LibraryFormat, LibraryModel, write_library
from mcu.firmware.measurement import FirmwareMeasurement, measure_firmware
from mcu.firmware.planning import PlanChoice, choose_plan
from mcu.firmware.prediction import FirmwarePrediction, predict_firmware
from mcu.firmware.project import require_gain, write_project
from mcu.firmware.toolchain import Toolchain, ToolsMissing, toolchain

__all__ = [
    "CORES",
    "Board",
    "Core",
    "EmulatorRun",
    "FirmwareBuild",
    "FirmwareDoesNotFit",
    "FirmwareMeasurement",
    "FirmwarePrediction",
    "LibraryFormat",
    "LibraryModel",
    "PlanChoice",
    "Toolchain",
    "ToolsMissing",
    "build",
    "choose_plan",
    "core_of",
    "find_core",
    "instructions_within",
    "macs_within",
    "measure_firmware",
    "predict_firmware",
    "predict_instructions",
    "require_gain",
    "run_in_emulator",
    "toolchain",
    "write_library",
    "write_project",
]
