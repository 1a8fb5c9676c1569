"""Checkpoints of a job between epochs: tensors as safetensors, the rest as JSON, both under a hash; never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

MANIFEST = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """State of a job.

    Attributes:
        tensors: by dotted name; the first part says whose they are (``network``, ``momentum``, ``bank``, ...).
        state: everything that is plain JSON: step, widths, trajectory.
    """

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors under one first name, without it."""
        return {key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(name + ".")}


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint in one step: a crash leaves the old one or the new one, never half of either."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({key: value.detach().cpu().contiguous() for key, value in checkpoint.tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    target = folder / f"checkpoint-{digest[:16]}.safetensors"
    _write(target, data)
    manifest = {"file": target.name, "sha256": digest, "state": checkpoint.state}
    text = json.dumps(manifest, sort_keys=True)
    _write(folder / MANIFEST, json.dumps({"manifest": text, "sha256": _digest(text)}).encode())
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != target:
            old.unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None if there is none or it is damaged (the job then starts again)."""
    try:
        outer = json.loads((folder / MANIFEST).read_bytes())
        if _digest(outer["manifest"]) != outer["sha256"]:
            return None
        manifest = json.loads(outer["manifest"])
        data = (folder / Path(manifest["file"]).name).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            return None
        return Checkpoint(load(data), manifest["state"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def remove_checkpoint(folder: Path) -> None:
    """Forget a finished job's checkpoint."""
    for path in (folder / MANIFEST, *folder.glob("checkpoint-*.safetensors")):
        path.unlink(missing_ok=True)


def named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under a first name."""
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(target: Path, data: bytes) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(data)
    os.replace(partial, target)
