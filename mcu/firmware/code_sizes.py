"""Flash and stack of our C code on each core, from Debian's GCC at -O2; ``COMPILERS`` has its versions.

``measure_code`` measures the figures again; ``python benchmarks/mcu/firmware.py --code-sizes`` prints the table below.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcu.firmware.build import FirmwareBuild, section_sizes
from mcu.firmware.cores import Core
from mcu.firmware.stack import called_functions, function_bytes, stack_bytes, stack_of_listing
from mcu.firmware.toolchain import AVR, Toolchain

KERNELS = {
    "convolution": ("convolution", ("convolution", "one_position", "several_positions")),
    "pointwise": ("pointwise", ("pointwise",)),
    "narrow": ("pointwise", ("narrow", "fill_column")),
    "depthwise": ("depthwise", ("depthwise", "all_channels", "all_channels_twice")),
    "depthwise_multiplied": ("depthwise", ("depthwise_multiplied",)),
    "max_pool": ("pooling", ("max_pool",)),
    "average_pool": ("pooling", ("average_pool",)),
    "mean": ("pooling", ("mean",)),
    "add": ("elementwise", ("add",)),
    "relu": ("elementwise", ("relu",)),
    "pad": ("elementwise", ("pad",)),
    "concat": ("elementwise", ("concat",)),
    "softmax": ("softmax", ("softmax",)),
    "lookup": ("elementwise", ("lookup",)),
    "multiply": ("elementwise", ("multiply",)),
    "grouped": ("convolution", ("grouped", "grouped_sum")),
    "enlarge": ("elementwise", ("enlarge",)),
    "slice": ("elementwise", ("slice",)),
    "gather": ("elementwise", ("gather",)),
    "transposed": ("convolution", ("transposed", "transposed_sum")),
    "prelu": ("elementwise", ("prelu",)),
    "bilinear": ("pooling", ("bilinear",)),
}
"""Object file and functions of every kernel."""

SHARED = {"one_run": ("pointwise", ("runs", "run_single", "run_several"))}
"""The same of code that several kernels call."""

CALLED = {"pointwise": ("one_run",), "narrow": ("one_run",)}
"""What of it a kernel calls."""

LIBRARY = {
    "rescale": ("rescale",),
    "high_product": ("high_product",),
    "product_64": ("__mulsidi3", "__umulsidi3", "__umulsidi3_helper", "__muldi3_6"),
    "product_32": ("__mulsi3", "__muluhisi3", "__mulshisi3", "__mulohisi3"),
    "product_16": ("__mulhisi3", "__usmulhisi3", "__usmulhisi3_tail"),
    "product_unsigned": ("__umulhisi3",),
    "division_16": ("__divmodhi4", "__divmodhi4_neg1", "__divmodhi4_neg2", "__divmodhi4_exit", "__udivmodhi4",
                    "__udivmodhi4_loop", "__udivmodhi4_ep"),
    "division_32": ("__divmodsi4", "__divmodsi4_neg2", "__divmodsi4_exit", "__negsi2", "__udivmodsi4",
                    "__udivmodsi4_loop", "__udivmodsi4_ep"),
    "shift_64": ("__ashrdi3", "__lshrdi3"),
    "memcpy": ("memcpy",),
}  # fmt: skip
"""Functions that an AVR's kernels call, in parts that are linked whole."""


@dataclass(frozen=True)
class KernelCode:
    """Bytes of a kernel's code, and of stack below its caller."""

    flash: int
    stack: int


@dataclass(frozen=True)
class CoreCode:
    """Bytes on one core.

    Attributes:
        base: flash of vector table, start-up, application and library functions.
        stack: of the application down to the call of ``model_run``.
        kernels: by name; and the code they share.
        library: parts of ``LIBRARY``, and ``called``: which of them a kernel does.
    """

    base: int
    stack: int
    kernels: Mapping[str, KernelCode]
    library: Mapping[str, int] = field(default_factory=dict)
    called: Mapping[str, Collection[str]] = field(default_factory=dict)

    def flash_of(self, kernels: Collection[str]) -> int:
        """Bytes of the code of some kernels together."""
        shared = {name for kernel in kernels for name in CALLED.get(kernel, ())}
        library = {name for kernel in kernels for name in self.called.get(kernel, ())}
        own = sum(self.kernels[name].flash for name in {*kernels, *shared})
        return own + sum(self.library[name] for name in library)


def measure_code(built: FirmwareBuild, tables: int, tools: Toolchain) -> CoreCode:
    """The figures of a core from a program that uses every kernel.

    Args:
        built: that program, its objects beside the ELF.
        tables: bytes of its tables and layer descriptions.
    """
    if tools.architecture is AVR:
        return _measure_avr(built, tables, tools)
    graphs, sizes = sorted(built.elf.parent.glob("*.ci")), function_sizes(built.elf, tools)
    whole = ALIGNMENTS[tools.architecture.name]
    kernels = {
        name: KernelCode(
            sum(-(-sizes.get(function, 0) // whole) * whole for function in functions),
            stack_bytes(graphs, name) if name in KERNELS else 0,
        )
        for name, (_, functions) in (KERNELS | SHARED).items()
    }
    flash = sizes["model_run"] + sum(kernel.flash for kernel in kernels.values())
    return CoreCode(built.flash - tables - flash, stack_bytes(graphs) - stack_bytes(graphs, "model_run"), kernels)


def function_sizes(elf: Path, tools: Toolchain) -> dict[str, int]:
    """Bytes of every function as it is linked, without the suffixes of the compiler's copies."""
    listing = subprocess.run([tools.symbol_tool(), "-S", elf], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    sizes: dict[str, int] = {}
    for row in rows:
        if len(row) == 4 and row[2] in "tT":
            name = row[3].partition(".")[0]
            sizes[name] = sizes.get(name, 0) + int(row[1], 16)
    return sizes


def _measure_avr(built: FirmwareBuild, tables: int, tools: Toolchain) -> CoreCode:
    """As ``measure_code``; ``tables`` with the bytes of calls, ``stack`` down to the call of a kernel."""
    folder, listing = built.elf.parent, tools.listing(built.elf)
    frames = sorted(folder.glob("*.su"))
    kernels = {
        name: KernelCode(
            _code_bytes(folder / f"{stem}.o", functions, tools),
            stack_of_listing(listing, frames, name) if name in KERNELS else 0,
        )
        for name, (stem, functions) in (KERNELS | SHARED).items()
    }
    library, called = _library(listing)
    deepest = max(kernel.stack for kernel in kernels.values())
    flash = sum(kernel.flash for kernel in kernels.values()) + sum(library.values())
    stack = stack_of_listing(listing, frames, "main") - deepest
    return CoreCode(built.flash - tables - flash, stack, kernels, library, called)


def _library(listing: str) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Bytes of the parts of ``LIBRARY`` in a program that has all, and what of it each kernel calls."""
    sizes = function_bytes(listing)
    library = {part: sum(sizes.get(name, 0) for name in names) for part, names in LIBRARY.items()}
    called = {}
    for kernel in KERNELS:
        reached = called_functions(listing, kernel)
        called[kernel] = tuple(part for part, names in LIBRARY.items() if reached.intersection(names))
    return library, called


def _code_bytes(item: Path, functions: tuple[str, ...], tools: Toolchain) -> int:
    sizes, step = section_sizes(item, tools), tools.architecture.alignment
    return sum(-(-sizes.get(f".text.{function}", 0) // step) * step for function in functions)


_RESCALING = ("rescale", "product_64", "product_unsigned")
CALLED_ON_AVR: Mapping[str, Collection[str]] = {
    **dict.fromkeys(("pointwise", "narrow", "add", "relu"), _RESCALING),
    **dict.fromkeys(("mean", "multiply", "prelu"), (*_RESCALING, "product_16")),
    **dict.fromkeys(("depthwise_multiplied", "grouped", "transposed"), (*_RESCALING, "division_16")),
    **dict.fromkeys(("convolution", "depthwise"), (*_RESCALING, "product_16", "division_16")),
    **dict.fromkeys(("pad", "concat", "slice"), ("memcpy",)),
    "average_pool": ("division_32",),
    "softmax": ("high_product", "product_64", "product_unsigned", "shift_64"),
    "enlarge": ("division_16", "memcpy"),
    "bilinear": ("product_32", "product_16", "product_unsigned"),
}
"""Parts of ``LIBRARY`` by the kernel that calls them."""


def _core(base: int, stack: int, *figures: int, library: tuple[int, ...] = ()) -> CoreCode:
    pairs = zip(figures[::2], figures[1::2], strict=True)
    kernels = {name: KernelCode(*pair) for name, pair in zip(KERNELS | SHARED, pairs, strict=True)}
    if not library:
        return CoreCode(base, stack, kernels)
    return CoreCode(base, stack, kernels, dict(zip(LIBRARY, library, strict=True)), CALLED_ON_AVR)


COMPILERS = {"arm": "12.2.1", "riscv": "12.2.0", "avr": "5.4.0"}
"""Versions of GCC that the figures below hold for, by architecture; another moves them by a few percent."""

_V6M = (1.2, 11.6, 15.7, 2.2, 3.0, 2.2, 7.0, 4.4, 19.9)
CALLS = {
    "arm": (5.5, 6.7, 15.2, 3.4, 2.3, 0.0, 6.5, 4.4, 19.0),
    "riscv": (6.1, 30.0, 20.2, 5.8, 4.7, 0.1, 0.0, 2.6, 14.4),
    "cortex-m0": _V6M,
    "cortex-m0+": _V6M,
    "avr": (0.0, 150.0, 16.0, 4.0, 0.0, 0.0, 0.0, 10.0, 10.0),
}
"""Bytes of code of each of ``Function.counts``, by core or architecture: least squares over some hundred functions of
generated networks, no cost below 0; single functions are up to 17 bytes off, those of the M0+ up to 38. An
AVR's are known, but for loops over strips."""

ALIGNMENTS = {"arm": 4, "riscv": 2}
"""Of functions, in bytes, by architecture."""

FRAMES = {"arm": (8, 0), "riscv": (16, 1)}
"""Frames are multiples of these bytes; and registers that need not be saved, by architecture."""


def code_bytes(counts: Sequence[int], core: Core) -> float:
    """Bytes of a function of calls with these counts."""
    costs = CALLS.get(core.name, CALLS[core.architecture.name])
    return sum(count * cost for count, cost in zip(counts, costs, strict=True))


AVR_STRIP_STACK = 10
"""Bytes of stack of a function of strips on an AVR, at most; of ``model_run`` they are in ``CoreCode.stack``."""


def frame_bytes(saved: int, core: Core, is_strip: bool) -> int:
    """Bytes of stack of a function of calls that saves so many registers."""
    if core.architecture is AVR:
        return AVR_STRIP_STACK if is_strip else 0
    step, free = FRAMES[core.architecture.name]
    return -(-4 * max(saved - free, 0) // step) * step


# fmt: off
CODE: Mapping[str, CoreCode] = {
    "cortex-m0": _core(
        1072, 24,
        1140, 296, 96, 184, 420, 296, 1404, 352, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180,
        80, 44, 56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80,
        508, 0),
    "cortex-m0+": _core(
        1072, 24,
        1140, 296, 96, 184, 420, 296, 1404, 352, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180,
        80, 44, 56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80,
        508, 0),
    "cortex-m3": _core(
        604, 16,
        1852, 304, 96, 176, 476, 376, 1220, 312, 580, 112, 316, 72, 372, 80, 168, 32, 304, 36, 144, 28, 160,
        80, 44, 56, 504, 64, 48, 8, 196, 48, 664, 144, 128, 72, 116, 72, 80, 16, 572, 144, 204, 48, 408, 80,
        1132, 0),
    "cortex-m4": _core(
        680, 16,
        2096, 336, 96, 208, 468, 408, 1560, 272, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160,
        80, 44, 56, 508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 144, 216, 32, 416, 80,
        1292, 0),
    "cortex-m4f": _core(
        704, 16,
        2080, 336, 96, 208, 468, 408, 1560, 280, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160,
        80, 44, 56, 508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 152, 216, 32, 416, 80,
        1292, 0),
    "cortex-m7": _core(
        680, 16,
        2108, 336, 92, 208, 468, 408, 1560, 280, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160,
        80, 44, 56, 508, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 596, 152, 216, 36, 420, 80,
        1304, 0),
    "cortex-m7f": _core(
        704, 16,
        2104, 336, 92, 208, 468, 408, 1564, 288, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160,
        80, 44, 56, 512, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 600, 152, 216, 36, 424, 80,
        1308, 0),
    "cortex-m33": _core(
        612, 16,
        2096, 336, 92, 208, 468, 408, 1544, 280, 600, 120, 316, 72, 372, 80, 136, 24, 216, 28, 112, 16, 160,
        80, 44, 56, 504, 64, 48, 8, 176, 48, 680, 144, 132, 72, 116, 72, 80, 16, 588, 144, 212, 28, 408, 80,
        1292, 0),
    "cortex-m55": _core(
        640, 16,
        1480, 320, 92, 256, 500, 616, 1996, 552, 560, 112, 328, 72, 388, 80, 124, 20, 216, 28, 112, 16, 160,
        80, 44, 56, 540, 80, 48, 8, 176, 48, 640, 144, 132, 72, 116, 72, 80, 16, 548, 144, 212, 28, 436, 88,
        980, 0),
    "riscv32imc": _core(
        260, 32,
        2188, 256, 114, 144, 510, 336, 1284, 272, 584, 80, 298, 32, 346, 32, 186, 0, 400, 0, 156, 0, 184, 80,
        68, 64, 608, 64, 42, 0, 200, 0, 696, 96, 156, 80, 148, 80, 80, 0, 564, 96, 230, 0, 444, 64, 1350, 0),
    "riscv32imac": _core(
        236, 32,
        2188, 256, 114, 144, 510, 336, 1284, 272, 584, 80, 298, 32, 346, 32, 186, 0, 400, 0, 156, 0, 184, 80,
        68, 64, 608, 64, 42, 0, 200, 0, 696, 96, 156, 80, 148, 80, 80, 0, 564, 96, 230, 0, 444, 64, 1350, 0),
    "avr5": _core(
        275, 4,
        2134, 176, 346, 120, 1154, 224, 1874, 178, 1448, 124, 832, 54, 1046, 76, 356, 54, 532, 72, 336, 56, 402, 28,
        152, 16, 1176, 68, 98, 8, 476, 70, 1794, 144, 404, 32, 392, 32, 222, 16, 1470, 138, 504, 68, 1234, 83, 656, 0,
        library=(166, 26, 134, 70, 30, 30, 80, 130, 60, 18)),
    "avr6": _core(
        403, 6,
        2134, 183, 346, 128, 1154, 232, 1874, 185, 1448, 130, 832, 55, 1046, 80, 356, 60, 532, 78, 336, 62, 400, 30,
        152, 18, 1176, 74, 98, 9, 476, 76, 1794, 150, 402, 36, 392, 34, 222, 17, 1470, 144, 504, 74, 1234, 87, 656, 0,
        library=(166, 26, 134, 70, 30, 30, 80, 130, 60, 18)),
}
"""Base flash and stack, then flash and stack of every kernel in the order of KERNELS and SHARED."""
# fmt: on
