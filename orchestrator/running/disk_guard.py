"""Guard of disk space: below a limit no new trial starts, so that running trials can finish."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcu.units import format_bytes
from orchestrator.failures import RunFailed


class DiskShort(RunFailed):
    """Not enough free space to start another trial."""


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of an existing or future folder."""
    while not os.path.exists(folder):
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class DiskGuard:
    """Monitors the free space of folders.

    Attributes:
        least: bytes that must be free in each.
        free: function that returns the free bytes of a folder.
    """

    folders: tuple[Path, ...] = ()
    least: int = 0
    free: Callable[[Path], int] = free_bytes

    def shortage(self) -> str | None:
        """One line on the shortage; None if there is enough space."""
        for folder in self.folders:
            found = self.free(folder)
            if found < self.least:
                return (
                    f"only {format_bytes(found)} are free in {folder}, less than [workers] min_free = "
                    f"{format_bytes(self.least)}: no more trials are started"
                )
        return None
