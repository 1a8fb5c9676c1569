"""Cache of loaded tasks: their description as JSON, their arrays in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from mcu.files import write_atomic
from mcu.front_end import FrontEnd
from search_spaces.tasks.store import cache_folder, mapped, stored
from search_spaces.tasks.task import SPLITS, Task

ARRAYS = (*(f"{axis}_{split}" for split in SPLITS for axis in "xy"), "groups_test")
TEXTS = ("name", "input_shape", "classes", "normalise", "augment", "citation", "licence", "dropped", "notes", "kind")
FORMAT = 1


def cached_task(key: str, make: Callable[[], Task]) -> Task:
    """The task stored under ``key``, or what ``make`` returns, stored for the next time.

    A cache that cannot be read is rebuilt; one that cannot be written is not used.

    Args:
        key: hexadecimal digest of everything the task depends on.
    """
    manifest = cache_folder() / "tasks" / f"{key}.json"
    found = _read(manifest)
    if found is not None:
        return found
    task = make()
    try:
        _write(manifest, task)
    except OSError:
        return task
    return _read(manifest) or task


def _read(manifest: Path) -> Task | None:
    try:
        fields = json.loads(manifest.read_text(encoding="utf-8"))
        if fields.pop("format") != FORMAT:
            return None
        for name, file in fields.pop("arrays").items():
            fields[name] = mapped(manifest.parent.parent / "arrays" / file)
        fields["input_shape"] = tuple(fields["input_shape"])
        fields["classes"] = tuple(fields["classes"])
        fields["notes"] = tuple(fields.get("notes", ()))
        fields["normalise"] = tuple(tuple(values) for values in fields["normalise"])
        fields["front_end"] = fields["front_end"] and FrontEnd(**fields["front_end"])
        return Task(**fields, verified=True)
    except (InputError, OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _write(manifest: Path, task: Task) -> None:
    arrays = {name: getattr(task, name) for name in ARRAYS if getattr(task, name) is not None}
    fields: dict[str, Any] = {name: getattr(task, name) for name in TEXTS}
    fields["front_end"] = task.front_end and asdict(task.front_end)
    fields["arrays"] = {name: stored(x).name for name, x in arrays.items()}
    write_atomic(manifest, json.dumps(fields | {"format": FORMAT}).encode())
