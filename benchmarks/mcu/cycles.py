"""Cycles per instruction of the cores, from public measurements on boards; writes the table and the page.

    python benchmarks/mcu/cycles.py                    mcu/cycles.toml and docs/results/mcu/cycles.md
    python benchmarks/mcu/cycles.py --count CHECKOUT   counts the instructions anew; CHECKOUT is TinyMaix's repository

The measurements and the counted instructions are in benchmarks/mcu/cycles.toml. Counting needs the compilers, QEMU and
bakenn (extra ``cmsis``).
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DATA = HERE / "cycles.toml"
TABLE = HERE.parents[1] / "mcu" / "cycles.toml"
PAGE = HERE.parents[1] / "docs" / "results" / "mcu" / "cycles.md"
SPAN = (10, 90)
"""Percentiles of the left-out measurements that the stated range reaches to."""

POOLS = {
    "cortex-m0": ("cortex-m0", "cortex-m0+"),
    "cortex-m0+": ("cortex-m0+",),
    "cortex-m3": ("cortex-m3",),
    "cortex-m4": ("cortex-m4f",),
    "cortex-m4f": ("cortex-m4f",),
    "cortex-m7": ("cortex-m7f",),
    "cortex-m7f": ("cortex-m7f",),
    "cortex-m33": ("cortex-m33",),
    "riscv32imc": ("riscv32imc",),
    "riscv32imac": ("riscv32imc", "riscv32imac"),
}
"""Cores of the boards that count for a core."""

WIDEST_KNOWN = "cortex-m4f"
"""The core with most boards."""

UNMEASURED = {
    "cortex-m55": (
        0.8, 2.2,
        "no public measurement; by Arm's description two cycles for a vector instruction, some others in pairs",
    ),
}  # fmt: skip

COUNTED = ("avr5", "avr6")
"""Cores whose emulator counts cycles."""


@dataclass(frozen=True)
class Measured:
    """One time on a board and the cycles per instruction it means."""

    board: str
    core: str
    program: str
    milliseconds: float
    mhz: int
    instructions: int

    @property
    def cycles(self) -> float:
        return self.milliseconds * self.mhz * 1000 / self.instructions


@dataclass(frozen=True)
class Fit:
    """A core's figure; ``low`` and ``high`` hold most measurements of boards that the figure was made without."""

    value: float
    low: float
    high: float
    boards: int
    measurements: int


def measurements(data: dict[str, Any]) -> list[Measured]:
    counts = data["instructions"]
    return [
        Measured(board["name"], board["core"], program, ms, board["mhz"], counts[board["core"]][program])
        for board in data["boards"]
        for program, ms in board["milliseconds"].items()
    ]


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def value_of(found: Sequence[Measured]) -> float:
    """Geometric mean over boards of the geometric mean over a board's programs: no board counts twice.

    Of CMSIS-NN alone where there are any: its compiler is known, and its kernels are the most like ours.
    """
    found = [one for one in found if one.program.startswith("CMSIS-NN")] or found
    boards = {one.board for one in found}
    return geometric_mean([geometric_mean([one.cycles for one in found if one.board == board]) for board in boards])


def fit(found: Sequence[Measured]) -> Fit:
    """The figure, and how far measurements of a board are from the figure of all other boards.

    With one board: how far its programs are from the figure of its other programs.
    """
    boards = {one.board for one in found}
    value = value_of(found)
    apart = [
        one.cycles
        / value_of([other for other in found if other.board != one.board] or [o for o in found if o is not one])
        for one in found
    ]
    low, high = np.percentile(apart, SPAN)
    return Fit(value, min(1.0, float(low)) * value, max(1.0, float(high)) * value, len(boards), len(found))


def fits(found: Sequence[Measured]) -> dict[str, Fit]:
    """The figure of each core; the range of one with a single board is at least as wide as that of ``WIDEST_KNOWN``."""
    fitted = {core: fit([one for one in found if one.core in pool]) for core, pool in POOLS.items()}
    known = fitted[WIDEST_KNOWN]
    for core, one in fitted.items():
        if one.boards == 1:
            low, high = (one.value * end / known.value for end in (known.low, known.high))
            fitted[core] = replace(one, low=min(one.low, low), high=max(one.high, high))
    return fitted


def table_text(fitted: dict[str, Fit]) -> str:
    lines = [
        "# Made by benchmarks/mcu/cycles.py: cycles per instruction of int8 kernels, docs/results/mcu/cycles.md.",
        "",
    ]
    for core, one in fitted.items():
        source = f"{one.measurements} public measurements on {one.boards} board{'s' if one.boards > 1 else ''}"
        lines += [f'["{core}"]', f"value = {one.value:.2f}", f"low = {one.low:.2f}", f"high = {one.high:.2f}"]
        lines += [f'source = "{source}"', ""]
    for core, (low, high, source) in UNMEASURED.items():
        lines += [f'["{core}"]', f"low = {low}", f"high = {high}", f'source = "{source}"', ""]
    for core in COUNTED:
        lines += [f'["{core}"]', "value = 1.0", "low = 1.0", "high = 1.0", 'source = "counted"', ""]
    return "\n".join(lines).rstrip() + "\n"


def page_text(data: dict[str, Any], found: Sequence[Measured], fitted: dict[str, Fit]) -> str:
    lines = [
        "# Cycles per instruction",
        "",
        "Made by `python benchmarks/mcu/cycles.py`. A latency is instructions, which the emulator counts exactly or",
        "the shapes predict, times cycles per instruction, divided by the clock. Here measured times of open kernels",
        "are divided by the instructions of the same programs, compiled by GCC at -O2 and counted in QEMU.",
        "",
        "A core's figure is the geometric mean over its boards, of those with CMSIS-NN where there are any: its",
        "compiler is known, and its kernels are the most like ours. The range holds 80 % of the measurements of boards",
        "that the figure was made without (leave one board out). With a single board one program is left out, and the",
        "range is at least as wide, relative to the figure, as that of the Cortex-M4, which has most boards. Flash",
        "wait states, caches, and for TinyMaix the compiler and its options, which are published for few boards, are",
        "all in that range: a core alone does not determine a latency. On one board the networks are closer: 1.47 to",
        "1.54 on the L4R5ZI, 1.25 to 1.28 on the nRF5340 and 1.33 to 1.55 on the RA6M4, from full convolutions",
        "(resnet8) to depthwise and 1x1 (mobilenet-v1). So there is one figure for all kernels, and [a measured",
        "model](../../how-to/board.md) calibrates its board.",
        "",
        "| core | cycles per instruction | range | relative | boards | measurements |",
        "|---|---|---|---|---|---|",
    ]
    for core, one in fitted.items():
        relative = f"{one.low / one.value - 1:+.0%} to {one.high / one.value - 1:+.0%}"
        lines.append(
            f"| {core} | {one.value:.2f} | {one.low:.2f} to {one.high:.2f} | {relative} | {one.boards} "
            f"| {one.measurements} |"
        )
    lines += [f"| {core} | none | {low} to {high} | | 0 | 0 |" for core, (low, high, _) in UNMEASURED.items()]
    lines += ["", *(f"{core}: {source}." for core, (_, _, source) in UNMEASURED.items()), "", *TEXT]
    lines += ["| board | core | MHz | program | measured, ms | instructions counted | cycles per instruction |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in found:
        lines.append(
            f"| {row.board} | {row.core} | {row.mhz} | {row.program} | {row.milliseconds:g} | {row.instructions:,} "
            f"| {row.cycles:.2f} |"
        )
    lines += ["", "| board | source | note |", "|---|---|---|"]
    for board in data["boards"]:
        source = data["sources"][board["source"]]
        lines.append(f"| {board['name']} | {board['source']}: {board['file']} | {board.get('note', '')} |")
    lines += ["", "Sources:", ""]
    for name, source in data["sources"].items():
        lines.append(f"- {name}: {source['title']}, <{source['url']}>, commit `{source['commit'][:12]}`")
    return "\n".join(lines) + "\n"


TEXT = (
    "The Cortex-M4 and M7 without floating-point unit take the figures of those with one, because int8 kernels use",
    "none. The Cortex-M0 takes those of the M0+ as well, RV32IMAC those of RV32IMC. The CMSIS-NN programs are",
    "the networks of MLPerf Tiny with CMSIS-NN's kernels of today for convolutions and ours for the few other",
    "layers; the submissions used earlier versions. Of TinyMaix's examples the mostly integer `cifar` and `vww96`",
    "count, and on cores without floating-point unit also `mnist`, which is in large part software floating point.",
    "",
    "Left out: results of engines whose code is closed (X-CUBE-AI, Plumerai, HALE), whose instructions nobody can",
    "count; MLPerf Tiny's autoencoder; boards that TinyMaix marks as to be confirmed, such as the STM32F767, whose 4",
    "to 6 cycles an instruction look like a Cortex-M7 with its caches off; times below 4 ms in whole milliseconds;",
    "RISC-V boards with a floating-point unit, and the CH32V203, whose options are not known.",
    "",
)


def counted(data: dict[str, Any], checkout: Path) -> dict[str, dict[str, int]]:
    """Instructions of every program that was measured, by core."""
    from cycles_counts import TinyMaixForm, cmsis_instructions, tinymaix_instructions

    from mcu.firmware import CORES

    found: dict[str, dict[str, int]] = {}
    for board in data["boards"]:
        own = found.setdefault(board["core"], {})
        for program in board["milliseconds"]:
            name, _, model = program.partition(", ")
            if program in own:
                continue
            core = CORES[board["core"]]
            if name == "CMSIS-NN":
                own[program] = cmsis_instructions(model, core)
            else:
                form = TinyMaixForm.named(name.removeprefix("TinyMaix "))
                own[program] = tinymaix_instructions(checkout, model, form, core)
            print(core.name, program, own[program], flush=True)
    return found


def write_counts(counts: dict[str, dict[str, int]]) -> None:
    text = DATA.read_text(encoding="utf-8")
    lines = [text[: text.index("[instructions.")].rstrip(), ""]
    for core, programs in counts.items():
        lines += [f'[instructions."{core}"]', *(f'"{name}" = {count}' for name, count in programs.items()), ""]
    DATA.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=Path, metavar="CHECKOUT")
    arguments = parser.parse_args()
    if arguments.count is not None:
        write_counts(counted(tomllib.loads(DATA.read_text(encoding="utf-8")), arguments.count))
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    found = measurements(data)
    fitted = fits(found)
    TABLE.write_text(table_text(fitted), encoding="utf-8")
    PAGE.write_text(page_text(data, found, fitted), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
