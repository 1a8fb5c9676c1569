"""The compression methods a sweep may name, and the hyperparameters each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mcu.errors import InputError
from pruning.training.recipe import TRAINING

ENTRY_POINTS = "mcusweep.methods"


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        summary: one line for people.
        hyperparameters: names it takes from the sweep file; None takes all.
        reference: ``module:function`` for methods of other packages, empty for ours.
        inherits: whether a job of it can begin with the trained network of another one.
    """

    name: str
    summary: str
    hyperparameters: tuple[str, ...] | None = None
    reference: str = ""
    inherits: bool = False


_PEER = (*TRAINING, "pretrain", "rounds", "scope")
BUILT_IN = (  # kept here so that listing and planning need not import torch; a test holds it against the code
    MethodEntry(
        "differentiable",
        "widths trained by gradient against the budget, landed exactly inside it",
        (*TRAINING, "warmup", "pruning"),
        inherits=True,
    ),
    MethodEntry(
        "differentiable-no-sram",
        "the differentiable job blind to SRAM while it trains, landed on the whole budget",
        (*TRAINING, "warmup", "pruning"),
        inherits=True,
    ),
    MethodEntry(
        "differentiable-macs-only",
        "the differentiable job that sees MACs only while it trains, landed on the whole budget",
        (*TRAINING, "warmup", "pruning"),
        inherits=True,
    ),
    MethodEntry("uniform", "one width multiplier for all layers, trained from scratch", TRAINING),
    MethodEntry("distilled-uniform", "one width multiplier for all layers, taught by the dense network", TRAINING),
    MethodEntry("random", "random channels removed by Torch-Pruning", _PEER),
    MethodEntry("l1", "filters with the smallest L1 norm removed by Torch-Pruning", _PEER),
    MethodEntry("l2", "filters with the smallest L2 norm removed by Torch-Pruning", _PEER),
    MethodEntry("fpgm", "filters nearest to their layer's geometric median removed by Torch-Pruning", _PEER),
    MethodEntry("taylor", "channels of the least first-order effect on the loss removed by Torch-Pruning", _PEER),
    MethodEntry(
        "slimming",
        "network slimming by Torch-Pruning: L1 on batch-norm scales, then the smallest removed",
        (*_PEER, "slimming_penalty"),
    ),
    MethodEntry(
        "group-norm",
        "channels with the smallest norm over all coupled layers removed by Torch-Pruning (DepGraph)",
        _PEER,
    ),
    MethodEntry("group-norm-sparse", "DepGraph with its sparse learning, by Torch-Pruning", (*_PEER, "group_penalty")),
    MethodEntry("low-rank", "convolutions factorised by truncated SVD, then fine-tuned", (*TRAINING, "pretrain")),
    MethodEntry(
        "magnitude",
        "single weights zeroed by magnitude; flash charged with their places, SRAM does not move",
        (*TRAINING, "pretrain", "rounds"),
    ),
    MethodEntry(
        "evolution",
        "aging evolution over widths inside the budget (uNAS-style), at the compute of one job",
        (*TRAINING, "candidates", "search"),
    ),
    MethodEntry("dense-ptq", "the whole network in int8: a reference, infeasible where it does not fit", TRAINING),
)


def method_entries() -> tuple[MethodEntry, ...]:
    """Our methods, then those that installed packages add under the entry point ``mcusweep.methods``."""
    own = {entry.name: entry for entry in BUILT_IN}
    for point in _plugins():
        if point.name not in own:
            package = point.dist.name if point.dist is not None else point.module
            own[point.name] = MethodEntry(point.name, f"from {package}", None, point.value)
    return tuple(own.values())


@cache
def _plugins() -> tuple[EntryPoint, ...]:
    """Reading what is installed takes milliseconds, and is asked for every trial."""
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name))


def find_method(name: str) -> MethodEntry:
    """The method of that name.

    Raises:
        InputError: if there is none; the message lists those there are.
    """
    entries = {entry.name: entry for entry in method_entries()}
    if name not in entries:
        close = get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"methods.names: unknown method {name!r}; {hint}allowed are {', '.join(entries)}")
    return entries[name]
