"""Flash and RAM of firmware, predicted beside what the linker makes of it, on 40 generated networks and every core.

OMP_NUM_THREADS=1 python benchmarks/mcu/firmware_sizes.py [--core ...]     a row for each core, to standard output
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from firmware import roomy_device
from instruction_costs import CHECKED, MEASURED, assorted_net

from mcu.firmware import CORES, FirmwareDoesNotFit, build, choose_plan, predict_firmware, write_project
from random_nets import random_net

FEW = 32
"""Bytes of flash that do not count, half as many of RAM."""


def errors(core: str) -> np.ndarray:
    """Bytes that flash and RAM are predicted too large, and what they are; ``(networks, 4)``, of those that fit."""
    rows = []
    for seed in CHECKED:
        for model in (random_net(seed), assorted_net(seed)):
            with tempfile.TemporaryDirectory() as folder:
                write_project(model, Path(folder))
                try:
                    built = build(Path(folder), roomy_device(CORES[core]))
                except FirmwareDoesNotFit:
                    continue
            predicted = predict_firmware(model, core, choose_plan(model).plan)
            rows.append((predicted.flash - built.flash, predicted.ram - built.ram, built.flash, built.ram))
    return np.array(rows)


def row(core: str, found: np.ndarray) -> str:
    off, sizes = found[:, :2], found[:, 2:]
    within = np.sum(np.abs(off) <= np.maximum(0.002 * sizes, (FEW, FEW // 2)), axis=0)
    cells = [
        f"{size.min():,} to {size.max():,} | {np.abs(by).mean():.1f} | {by.min():+d} to {by.max():+d} "
        f"| {np.abs(by).sum() / size.sum():.2%} | {count}"
        for by, size, count in zip(off.T, sizes.T, within, strict=True)
    ]
    return f"| {core} | {len(found)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", choices=MEASURED, action="append")
    arguments = parser.parse_args()
    for core in arguments.core or MEASURED:
        print(row(core, errors(core)), flush=True)


if __name__ == "__main__":
    main()
