"""How the generated C is compiled and linked: one place for the Makefile and for our own builds."""

from __future__ import annotations

from mcu.devices import Device

KERNEL_SOURCES = (
    "arithmetic.c",
    "convolution.c",
    "pointwise.c",
    "depthwise.c",
    "pooling.c",
    "elementwise.c",
    "softmax.c",
    "program.c",
)
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wcast-qual",
)
HOST_FLAGS = ("-std=c11", "-O2", *WARNINGS)
COMPILE_FLAGS = (*HOST_FLAGS, "-ffunction-sections", "-fdata-sections")
LINK_FLAGS = ("-Wl,--gc-sections",)
_FLASH_ORIGINS = {
    "STMicroelectronics": 0x08000000,
    "GigaDevice": 0x08000000,
    "Raspberry Pi": 0x10000000,
    "Analog Devices": 0x10000000,
    "Espressif": 0x42000000,
}
_RAM_ORIGINS = {"Espressif": 0x3FC80000, "avr5": 0x100, "avr6": 0x200}


def flash_origin(device: Device) -> int:
    """Where the vendor's parts map their flash; 0 is what most of the others do.

    Sizes, and so the fit, do not depend on it. Check it against the data sheet before flashing a board.
    """
    return _FLASH_ORIGINS.get(device.vendor, 0x00000000)


def ram_origin(device: Device) -> int:
    """Where the vendor's parts, or those with the core, map their RAM. As ``flash_origin``."""
    return _RAM_ORIGINS.get(device.core, _RAM_ORIGINS.get(device.vendor, 0x20000000))
