"""Free space where a sweep writes: below a limit no more trials begin, so that those that run can finish."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcu.units import format_bytes
from orchestrator.failures import RunFailed


class DiskShort(RunFailed):
    """Too little space is left to begin another trial."""


def free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be."""
    while not os.path.exists(folder):
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class DiskGuard:
    """Watches folders.

    Attributes:
        least: bytes that must be free in each.
        free: how the free bytes of a folder are found.
    """

    folders: tuple[Path, ...] = ()
    least: int = 0
    free: Callable[[Path], int] = free_bytes

    def shortage(self) -> str | None:
        """One line that says what is short; None while there is room."""
        for folder in self.folders:
            found = self.free(folder)
            if found < self.least:
                return (
                    f"only {format_bytes(found)} are free in {folder}, less than [workers] min_free = "
                    f"{format_bytes(self.least)}: no more trials are begun"
                )
        return None
