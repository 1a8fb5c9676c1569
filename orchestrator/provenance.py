"""Provenance of a study: package versions and machine, recorded when it starts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mcusweep", "torch", "numpy", "optuna", "ray", "torch-pruning", "tflite-micro", "sqlalchemy")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on; missing ones are skipped."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            there: str | None = version(name)  # None, whatever its type says, where the notes of the package are gone
        except PackageNotFoundError:
            continue
        if there:
            found[name] = there
    return found


def usable_cpus() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, object]:
    """System, processor and memory (bytes); no names of hosts or people."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": usable_cpus(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
