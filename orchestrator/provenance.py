"""Provenance of a study: package versions and machine, recorded when it starts."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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


LATER, MERGED = "later", "merged"
"""Among a study's versions: by time, those of drivers that went on with other ones than before; versions of mcusweep of
the studies that were merged."""

UNKNOWN = "unknown"


def with_driver(noted: Mapping[str, Any], now: Mapping[str, str], at: str) -> dict[str, Any]:
    """A study's versions, with those of a driver that begins at a time (ISO 8601 in UTC) if they are not the last."""
    later = noted.get(LATER, {})
    last = later[max(later)] if later else {name: value for name, value in noted.items() if name not in (LATER, MERGED)}
    return {**noted, LATER: {**later, at: dict(now)}} if last != now else dict(noted)


def with_merged(noted: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A study's versions after trials of another database, whose times say nothing here, were merged into it."""
    both = engines(noted) | engines(theirs)
    return {**noted, MERGED: sorted(both)} if len(both) > 1 else dict(noted)


def engines(noted: Mapping[str, Any]) -> set[str]:
    """The versions of mcusweep that took part in a study."""
    began = (noted, *noted.get(LATER, {}).values())
    return {str(versions.get("mcusweep", UNKNOWN)) for versions in began} | set(noted.get(MERGED, ()))


def engine_at(noted: Mapping[str, Any], at: str) -> str:
    """Version of mcusweep that made a study's results at a time; several where that is not known."""
    if MERGED in noted:
        return " or ".join(noted[MERGED])
    before = [began for began in noted.get(LATER, {}) if began <= at]
    return str((noted[LATER][max(before)] if before else noted).get("mcusweep", UNKNOWN))


def check_versions(noted: Mapping[str, Any]) -> None:
    """Refuse what no study has as its versions.

    Raises:
        ValueError: saying so.
    """
    later, merged = noted.get(LATER, {}), noted.get(MERGED, [])
    if not isinstance(later, dict) or not isinstance(merged, list):
        raise ValueError("its versions are none")
    plain = [value for name, value in noted.items() if name not in (LATER, MERGED)] + merged
    for versions in later.values():
        plain += versions.values() if isinstance(versions, dict) else [None]
    if not all(isinstance(value, str) for value in plain):
        raise ValueError("its versions are no texts")


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
