"""Local processes: liveness, descendants, termination. Uses only the standard library."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_STATE, _PARENT, _START = 0, 1, 19  # fields of /proc/PID/stat after the name


def _stat(pid: int) -> list[str] | None:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def process_start(pid: int) -> float | None:
    """Start time of a local process in clock ticks since boot; None if the system does not provide it.

    Together with the pid it distinguishes a process from a later one with the same number.
    """
    stat = _stat(pid)
    return float(stat[_START]) if stat else None


def process_alive(pid: int) -> bool:
    """Whether a local process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = _stat(pid)
    return stat is None or stat[_STATE] not in ("Z", "X")


@dataclass(frozen=True)
class LocalProcess:
    """A process of this machine, distinguished from later ones with the same number by its start time."""

    pid: int
    start: float | None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return process_alive(self.pid) and process_start(self.pid) == self.start

    @property
    def name(self) -> str:
        """Its short name; empty if it is gone."""
        try:
            return (PROC / str(self.pid) / "comm").read_text().strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """End it at once, if it is still the same process."""
        if self.alive:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


def descendants(*pids: int) -> list[LocalProcess]:
    """All descendants of these processes; none without /proc."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*"):
        stat = _stat(int(entry.name))
        if stat is not None:
            children.setdefault(int(stat[_PARENT]), []).append(int(entry.name))
    found: list[int] = []
    level = [child for pid in pids for child in children.get(pid, [])]
    while level:
        found += level
        level = [child for parent in level for child in children.get(parent, [])]
    return [LocalProcess(child, process_start(child)) for child in found]


def end_all(processes: Iterable[LocalProcess], patience: float) -> list[LocalProcess]:
    """Wait ``patience`` seconds for processes to exit, then kill the rest; returns those killed."""
    deadline = time.monotonic() + patience
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [process for process in left if process.alive]
    for process in left:
        process.kill()
    return left
