"""A trained float network that one job passes to another: its structure, widths and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import fx, nn

from mcu.errors import InputError
from pruning.engine import surgery
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.engine.structure import Edit, edited

NOTES = "mcusweep"
"""Key of all that the file says besides tensors: one text, as the order of several is another every time."""

Edits = tuple[tuple[Edit, ...], ...]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network derived from a dense one.

    Attributes:
        edits: changes of structure by each job of its lineage, in order; names refer to the network before that job.
        widths: of every remaining group of channels.
        tensors: every parameter and running statistic by path.
    """

    edits: Edits
    widths: tuple[int, ...]
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, network: PrunableNetwork, edits: Sequence[Sequence[Edit]]) -> TrainedNetwork:
        """A copy of a network as it is now."""
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.tensors().items()}
        stages = tuple(tuple((str(node), str(change)) for node, change in stage) for stage in edits if stage)
        return cls(stages, tuple(network.graph.widths.tolist()), tensors)

    def build(self, dense: nn.Module, constraints: Constraints) -> fx.GraphModule:
        """The network, built from a dense one with arbitrary weights, which is modified."""
        module = constraints.trace(dense).module
        for stage in self.edits:
            module = constraints.trace(edited(module, stage)).module
        network = PrunableNetwork(module, constraints)
        network.keep([np.arange(width) for width in self.widths])
        surgery.fill(network.tensors(), self.tensors)
        return network.module

    def encode(self) -> bytes:
        """The network as a safetensors file, with its layout and a digest of everything."""
        tensors = dict(sorted(self.tensors.items()))
        layout = {"edits": self.edits, "widths": self.widths}
        notes = layout | {"sha256": _digest(tensors, layout)}
        return save(tensors, {NOTES: json.dumps(notes, sort_keys=True)})

    @classmethod
    def read(cls, file: Path) -> TrainedNetwork:
        """The network in a file.

        Raises:
            InputError: if it is missing or damaged.
        """
        if not file.is_file():
            raise InputError(f"{file}: the trained network that this trial starts from is missing")
        try:
            with safe_open(file, framework="pt") as opened:
                notes = json.loads((opened.metadata() or {}).get(NOTES, "{}"))
                tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
            if notes.pop("sha256", None) != _digest(tensors, notes):
                raise ValueError("its digest does not match")
            stages = notes["edits"] if "edits" in notes else notes["removals"]  # as earlier versions call them
            edits = tuple(tuple((node, change) for node, change in stage) for stage in stages)
            return cls(edits, tuple(notes["widths"]), tensors)
        except (SafetensorError, ValueError, KeyError, OSError) as error:
            raise InputError(f"{file}: the trained network that this trial starts from is damaged: {error}") from None


def _digest(tensors: Mapping[str, torch.Tensor], layout: Mapping[str, Any]) -> str:
    return hashlib.sha256(save(dict(tensors)) + json.dumps(layout, sort_keys=True).encode()).hexdigest()
