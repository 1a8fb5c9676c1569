"""Checkpoints of a job between epochs: tensors as safetensors, the rest as JSON, both with a hash; no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from mcu.files import write_atomic

MANIFEST = "checkpoint.json"
FORMAT = 3
"""Checkpoints of another format are as good as none: a job starts again."""

_TENSOR = "tensor of this name:"
_ITEMS = "items of a dictionary:"

StateDict = dict[str, Any]
"""Tensors and plain JSON values, in dictionaries and lists, as deep as wanted; tuples come back as lists."""


def write_checkpoint(folder: Path, state: StateDict) -> None:
    """Replace the folder's checkpoint atomically: a crash leaves the old one or the new one."""
    tensors: dict[str, torch.Tensor] = {}
    plain = _without_tensors(state, "", tensors)
    data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    target = folder / f"checkpoint-{digest[:16]}.safetensors"
    write_atomic(target, data)
    manifest = {"format": FORMAT, "file": target.name, "sha256": digest, "state": plain}
    text = json.dumps(manifest, sort_keys=True)
    write_atomic(folder / MANIFEST, json.dumps({"manifest": text, "sha256": _digest(text)}).encode())
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != target:
            old.unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> StateDict | None:
    """The folder's checkpoint; None if there is none or it is damaged (the job then starts again)."""
    try:
        outer = json.loads((folder / MANIFEST).read_bytes())
        if _digest(outer["manifest"]) != outer["sha256"]:
            return None
        manifest = json.loads(outer["manifest"])
        if manifest.get("format") != FORMAT:
            return None
        data = (folder / Path(manifest["file"]).name).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            return None
        state: StateDict = _with_tensors(manifest["state"], load(data))
        return state
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def remove_checkpoint(folder: Path) -> None:
    """Delete a finished job's checkpoint."""
    for path in (folder / MANIFEST, *folder.glob("checkpoint-*.safetensors")):
        path.unlink(missing_ok=True)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: StateDict) -> None:
    """Restore the state of an optimiser with the same parameters; the state gets their memory format."""
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for key, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                kept[key] = torch.empty_like(parameter).copy_(value)


def _without_tensors(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The value with a name in place of each tensor, which is put into ``tensors``."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return _TENSOR + path
    if isinstance(value, dict):
        plain = {key: _without_tensors(entry, f"{path}/{key}", tensors) for key, entry in value.items()}
        return plain if all(isinstance(key, str) for key in plain) else {_ITEMS: list(plain.items())}
    if isinstance(value, list | tuple):
        return [_without_tensors(entry, f"{path}/{index}", tensors) for index, entry in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        items = value[_ITEMS] if list(value) == [_ITEMS] else value.items()
        return {key: _with_tensors(entry, tensors) for key, entry in items}
    if isinstance(value, list):
        return [_with_tensors(entry, tensors) for entry in value]
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
