"""Flash and stack of our C code on each core, from Debian's GCC at -O2; ``COMPILERS`` has its versions.

``measure_code`` measures the figures again; ``python benchmarks/mcu/firmware.py --code-sizes`` prints the table below.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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


def measure_code(built: FirmwareBuild, tables: int, tools: Toolchain) -> CoreCode:
    """The figures of a core from a program that uses every kernel.

    Args:
        built: that program, its objects beside the ELF.
        tables: bytes of its tables, layer descriptions and calls.
    """
    folder, avr = built.elf.parent, tools.architecture is AVR
    graphs = sorted(folder.glob("*.su" if avr else "*.ci"))
    listing = tools.listing(built.elf) if avr else ""

    def stack(entry: str) -> int:
        return stack_of_listing(listing, graphs, entry) if avr else stack_bytes(graphs, entry)

    kernels = {
        name: KernelCode(_code_bytes(folder / f"{stem}.o", functions, tools), stack(name) if name in KERNELS else 0)
        for name, (stem, functions) in (KERNELS | SHARED).items()
    }
    library, called = _library(listing)
    deepest = max(kernel.stack for kernel in kernels.values())
    flash = sum(kernel.flash for kernel in kernels.values()) + sum(library.values())
    return CoreCode(
        built.flash - tables - flash, stack("main" if avr else "reset_handler") - deepest, kernels, library, called
    )


def _library(listing: str) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Bytes of the parts of ``LIBRARY`` in a program that has all, and what of it each kernel calls."""
    if not listing:
        return {}, {}
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

CALL_BYTES = {"arm": 17, "riscv": 19, "avr": 16}
"""Instructions and addresses of one call in ``model_run``, on average, by architecture; an AVR's is exact."""

MORE_ARGUMENT = {"arm": 0, "riscv": 0, "avr": 4}
"""The same of one more input, where it is not in the average."""

_V6M = (23, 12, 60)
STRIP_BYTES = {"arm": (19, 14, 30), "riscv": (27, 12, 60), "avr": (17, 0, 150), "cortex-m0": _V6M, "cortex-m0+": _V6M}
"""Of layers that run strip by strip: a call, the function of a run of equal strips, a loop; by core or architecture."""

STRIP_STACK = {"arm": 24, "riscv": 24, "avr": 10}
"""Bytes of stack of such a function, at most, by architecture."""

# fmt: off
CODE: Mapping[str, CoreCode] = {
    "cortex-m0": _core(
        1054, 48,
        1140, 296, 96, 184, 420, 296, 956, 320, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180, 80, 44,
        56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80, 508, 0),
    "cortex-m0+": _core(
        1054, 48,
        1140, 296, 96, 184, 420, 296, 956, 320, 676, 144, 396, 72, 444, 120, 172, 64, 364, 72, 172, 64, 180, 80, 44,
        56, 732, 168, 36, 12, 232, 88, 812, 168, 180, 88, 136, 72, 68, 20, 656, 168, 244, 80, 432, 80, 508, 0),
    "cortex-m3": _core(
        570, 40,
        1852, 304, 96, 176, 476, 376, 844, 264, 580, 112, 316, 72, 372, 80, 168, 32, 304, 36, 144, 28, 160, 80, 44, 56,
        504, 64, 48, 8, 196, 48, 664, 144, 128, 72, 116, 72, 80, 16, 572, 144, 204, 48, 408, 80, 1132, 0),
    "cortex-m4": _core(
        646, 40,
        2096, 336, 96, 208, 468, 408, 1108, 224, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160, 80, 44,
        56, 508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 144, 216, 32, 416, 80, 1292, 0),
    "cortex-m4f": _core(
        670, 40,
        2080, 336, 96, 208, 468, 408, 1100, 224, 588, 120, 316, 72, 372, 80, 132, 24, 232, 32, 116, 20, 160, 80, 44,
        56, 508, 64, 48, 8, 176, 48, 672, 144, 132, 72, 116, 64, 80, 16, 596, 152, 216, 32, 416, 80, 1292, 0),
    "cortex-m7": _core(
        646, 40,
        2108, 336, 92, 208, 468, 408, 1124, 224, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160, 80, 44,
        56, 508, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 596, 152, 216, 36, 420, 80, 1304, 0),
    "cortex-m7f": _core(
        670, 40,
        2104, 336, 92, 208, 468, 408, 1112, 224, 600, 120, 312, 72, 376, 80, 132, 24, 228, 32, 116, 20, 160, 80, 44,
        56, 512, 64, 48, 8, 172, 48, 692, 144, 132, 72, 116, 72, 80, 16, 600, 152, 216, 36, 424, 80, 1308, 0),
    "cortex-m33": _core(
        578, 40,
        2096, 336, 92, 208, 468, 408, 1112, 216, 600, 120, 316, 72, 372, 80, 136, 24, 216, 28, 112, 16, 160, 80, 44,
        56, 504, 64, 48, 8, 176, 48, 680, 144, 132, 72, 116, 72, 80, 16, 588, 144, 212, 28, 408, 80, 1292, 0),
    "cortex-m55": _core(
        606, 40,
        1480, 320, 92, 256, 500, 616, 1824, 472, 560, 112, 328, 72, 388, 80, 124, 20, 216, 28, 112, 16, 160, 80, 44,
        56, 540, 80, 48, 8, 176, 48, 640, 144, 132, 72, 116, 72, 80, 16, 548, 144, 212, 28, 436, 88, 980, 0),
    "riscv32imc": _core(
        250, 64,
        2208, 256, 120, 144, 528, 336, 900, 256, 584, 80, 300, 32, 348, 32, 188, 0, 400, 0, 156, 0, 216, 80, 76, 64,
        608, 64, 44, 0, 200, 0, 696, 96, 164, 80, 156, 80, 80, 0, 564, 96, 232, 0, 444, 64, 1368, 0),
    "riscv32imac": _core(
        226, 64,
        2208, 256, 120, 144, 528, 336, 900, 256, 584, 80, 300, 32, 348, 32, 188, 0, 400, 0, 156, 0, 216, 80, 76, 64,
        608, 64, 44, 0, 200, 0, 696, 96, 164, 80, 156, 80, 80, 0, 564, 96, 232, 0, 444, 64, 1368, 0),
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
