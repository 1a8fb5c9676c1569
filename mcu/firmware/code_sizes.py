"""Flash and stack of our C code on each core, from Debian's GCC at -O2; ``COMPILERS`` has its versions.

``measure_code`` measures the figures again; ``python benchmarks/mcu/firmware.py --code-sizes`` prints the table below.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcu.cost.firmware_program import STRIPS
from mcu.firmware.build import FirmwareBuild, section_sizes
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

SHARED = {
    "one_run": ("pointwise", ("runs", "run_single", "run_several", "runs_of_one_vector", "runs_of_two_vectors")),
    STRIPS: ("program", ("strips",)),
}
"""The same of code that several kernels call, and of what calls kernels again and again."""

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
    """Bytes of a kernel's code, and of stack below its caller; of ``strips`` down to its call of a kernel."""

    flash: int
    stack: int


@dataclass(frozen=True)
class CoreCode:
    """Bytes on one core.

    Attributes:
        base: flash of vector table, start-up, application and library functions.
        stack: of the application down to the call of a kernel.
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


def measure_code(built: FirmwareBuild, constants: int, tools: Toolchain) -> CoreCode:
    """The figures of a core from a program that uses every kernel but ``strips``.

    Args:
        built: that program, its objects beside the ELF.
        constants: bytes of its tables, layer descriptions and steps.
    """
    if tools.architecture is AVR:
        return _measure_avr(built, constants, tools)
    graphs, whole = sorted(built.elf.parent.glob("*.ci")), ALIGNMENTS[tools.architecture.name]
    sizes = function_sizes(built.elf, tools) | {STRIPS: _code_bytes(built.elf.parent / "program.o", (STRIPS,), tools)}
    stacks = {name: stack_bytes(graphs, name) for name in KERNELS}
    deepest = max(stacks.values())
    stacks[STRIPS] = stack_bytes(graphs, STRIPS, {STRIPS: KERNELS}) - deepest
    kernels = {
        name: KernelCode(sum(-(-sizes.get(part, 0) // whole) * whole for part in functions), stacks.get(name, 0))
        for name, (_, functions) in (KERNELS | SHARED).items()
    }
    return CoreCode(
        _base(built, constants, kernels), stack_bytes(graphs, named={"run_program": KERNELS}) - deepest, kernels
    )


def _base(built: FirmwareBuild, constants: int, kernels: Mapping[str, KernelCode]) -> int:
    return built.flash - constants - sum(code.flash for name, code in kernels.items() if name != STRIPS)


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


def _measure_avr(built: FirmwareBuild, constants: int, tools: Toolchain) -> CoreCode:
    folder, listing = built.elf.parent, tools.listing(built.elf)
    frames = sorted(folder.glob("*.su"))
    kernels = {
        name: KernelCode(
            _code_bytes(folder / f"{stem}.o", functions, tools),
            stack_of_listing(listing, frames, name) if name in {*KERNELS, STRIPS} else 0,
        )
        for name, (stem, functions) in (KERNELS | SHARED).items()
    }
    library, called = _library(listing)
    deepest = max(kernels[name].stack for name in KERNELS)
    base = _base(built, constants, kernels) - sum(library.values())
    return CoreCode(
        base, stack_of_listing(listing, frames, named={"run_program": KERNELS}) - deepest, kernels, library, called
    )


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
    sizes, step = section_sizes(item, tools), ALIGNMENTS[tools.architecture.name]
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

ALIGNMENTS = {"arm": 4, "riscv": 2, "avr": 1}
"""Of functions, in bytes, by architecture."""

# fmt: off
CODE: Mapping[str, CoreCode] = {
    "cortex-m0": _core(
        1144, 48,
        1140, 296, 96, 184, 420, 296, 1560, 368, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180, 80, 44,
        56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80, 508, 0, 112, 24),
    "cortex-m0+": _core(
        1144, 48,
        1140, 296, 96, 184, 420, 296, 1560, 368, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180, 80, 44,
        56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80, 508, 0, 112, 24),
    "cortex-m3": _core(
        680, 32,
        1860, 304, 96, 176, 476, 376, 1296, 320, 580, 112, 316, 72, 372, 80, 168, 32, 304, 36, 144, 28, 160, 80, 44, 56,
        504, 64, 48, 8, 196, 48, 664, 144, 128, 72, 116, 72, 80, 16, 572, 144, 204, 48, 408, 80, 1128, 0, 128, 24),
    "cortex-m4": _core(
        756, 32,
        2104, 336, 96, 208, 468, 408, 1616, 272, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160, 80, 44, 56,
        508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 144, 216, 32, 416, 80, 1296, 0, 128, 24),
    "cortex-m4f": _core(
        780, 32,
        2088, 336, 96, 208, 468, 408, 1616, 280, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160, 80, 44, 56,
        508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 152, 216, 32, 416, 80, 1296, 0, 124, 32),
    "cortex-m7": _core(
        752, 32,
        2116, 336, 92, 208, 468, 408, 1624, 280, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160, 80, 44, 56,
        508, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 596, 152, 216, 36, 420, 80, 1312, 0, 128, 24),
    "cortex-m7f": _core(
        776, 32,
        2112, 336, 92, 208, 468, 408, 1620, 288, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160, 80, 44, 56,
        512, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 600, 152, 216, 36, 424, 80, 1316, 0, 124, 32),
    "cortex-m33": _core(
        688, 32,
        2108, 336, 92, 208, 468, 408, 1608, 272, 600, 120, 316, 72, 372, 80, 136, 24, 216, 28, 112, 16, 160, 80, 44, 56,
        504, 64, 48, 8, 176, 48, 680, 144, 132, 72, 116, 72, 80, 16, 588, 144, 212, 28, 408, 80, 1300, 0, 128, 24),
    "cortex-m55": _core(
        716, 32,
        1840, 464, 92, 432, 500, 792, 2296, 552, 560, 112, 328, 72, 388, 80, 124, 20, 216, 28, 112, 16, 160, 80, 44, 56,
        540, 80, 48, 8, 176, 48, 640, 144, 132, 72, 116, 72, 80, 16, 548, 144, 212, 28, 436, 88, 2340, 0, 124, 32),
    "riscv32imc": _core(
        338, 48,
        2202, 256, 114, 144, 508, 336, 1332, 288, 584, 80, 298, 32, 346, 32, 186, 0, 400, 0, 156, 0, 184, 80, 68, 64,
        608, 64, 42, 0, 200, 0, 696, 96, 156, 80, 148, 80, 80, 0, 564, 96, 230, 0, 444, 64, 1356, 0, 126, 32),
    "riscv32imac": _core(
        314, 48,
        2202, 256, 114, 144, 508, 336, 1332, 288, 584, 80, 298, 32, 346, 32, 186, 0, 400, 0, 156, 0, 184, 80, 68, 64,
        608, 64, 42, 0, 200, 0, 696, 96, 156, 80, 148, 80, 80, 0, 564, 96, 230, 0, 444, 64, 1356, 0, 126, 32),
    "avr5": _core(
        393, 10,
        2134, 176, 346, 120, 1154, 224, 2174, 198, 1448, 124, 832, 54, 1046, 76, 356, 54, 532, 72, 336, 56, 402, 28,
        152, 16, 1176, 68, 98, 8, 476, 70, 1794, 144, 404, 32, 392, 32, 222, 16, 1470, 138, 504, 68, 1234, 83, 656, 0,
        336, 18,
        library=(166, 26, 134, 70, 30, 30, 80, 130, 60, 18)),
    "avr6": _core(
        521, 13,
        2134, 183, 346, 128, 1154, 232, 2174, 205, 1448, 130, 832, 55, 1046, 80, 356, 60, 532, 78, 336, 62, 400, 30,
        152, 18, 1176, 74, 98, 9, 476, 76, 1794, 150, 402, 36, 392, 34, 222, 17, 1470, 144, 504, 74, 1234, 87, 656, 0,
        336, 19,
        library=(166, 26, 134, 70, 30, 30, 80, 130, 60, 18)),
}
"""Base flash and stack, then flash and stack of every kernel in the order of KERNELS and SHARED."""
# fmt: on
