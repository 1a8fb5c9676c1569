"""The compression methods a sweep may name: summary, hyperparameters and location. Imports no torch.

Other packages add theirs under the entry point ``mcusweep.methods``: a function without arguments, or a class, that
makes a `pruning.methods.Method`.
"""

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
        reference: ``module:class`` that makes it.
        summary: one line for people.
        hyperparameters: names it takes from the sweep file; None takes all.
        inherits: whether a job of it can begin with the trained network of another one.
        taught: whether a job of it begins with random weights, but is taught by the dense network of a lineage.
    """

    name: str
    reference: str
    summary: str
    hyperparameters: tuple[str, ...] | None = None
    inherits: bool = False
    taught: bool = False


_PEER = (*TRAINING, "pretrain", "rounds", "scope")
BUILT_IN = (
    MethodEntry(
        "differentiable", "pruning.differentiable:DifferentiablePruning",
        "widths trained by gradient descent under the budget's constraints, rounded to fit it on exact bytes",
        (*TRAINING, "warmup", "pruning", "balance", "halving"), inherits=True,
    ),
    MethodEntry(
        "differentiable-no-sram", "pruning.baselines.single_resource:DifferentiableWithoutSram",
        "the differentiable job without the SRAM constraint in training; final widths fit the whole budget",
        (*TRAINING, "warmup", "pruning"), inherits=True,
    ),
    MethodEntry(
        "differentiable-macs-only", "pruning.baselines.single_resource:DifferentiableMacsOnly",
        "the differentiable job with only the MACs constraint in training; final widths fit the whole budget",
        (*TRAINING, "warmup", "pruning"), inherits=True,
    ),
    MethodEntry(
        "uniform", "pruning.baselines.uniform:UniformWidth",
        "one width multiplier for all layers, trained from scratch",
        TRAINING, taught=True,
    ),
    MethodEntry(
        "distilled-uniform", "pruning.baselines.distilled:DistilledUniform",
        "one width multiplier for all layers, distilled from the dense network",
        TRAINING,
    ),
    MethodEntry(
        "random", "pruning.baselines.criteria:RandomChannels",
        "random channels removed by Torch-Pruning",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "l1", "pruning.baselines.criteria:L1Filters",
        "filters with the smallest L1 norm removed by Torch-Pruning",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "l2", "pruning.baselines.criteria:L2Filters",
        "filters with the smallest L2 norm removed by Torch-Pruning",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "fpgm", "pruning.baselines.criteria:GeometricMedian",
        "filters nearest to their layer's geometric median removed by Torch-Pruning",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "taylor", "pruning.baselines.criteria:TaylorChannels",
        "channels of the least first-order effect on the loss removed by Torch-Pruning",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "slimming", "pruning.baselines.sparse_learning:Slimming",
        "network slimming by Torch-Pruning: L1 on batch-norm scales, then the smallest removed",
        (*_PEER, "slimming_penalty"), inherits=True,
    ),
    MethodEntry(
        "group-norm", "pruning.baselines.sparse_learning:GroupNorm",
        "channels with the smallest norm over all coupled layers removed by Torch-Pruning (DepGraph)",
        _PEER, inherits=True,
    ),
    MethodEntry(
        "group-norm-sparse", "pruning.baselines.sparse_learning:SparseGroupNorm",
        "DepGraph with its sparse learning, by Torch-Pruning",
        (*_PEER, "group_penalty"), inherits=True,
    ),
    MethodEntry(
        "low-rank", "pruning.baselines.low_rank:LowRank",
        "convolutions factorised by truncated SVD, then fine-tuned",
        (*TRAINING, "pretrain"),
    ),
    MethodEntry(
        "magnitude", "pruning.baselines.magnitude:UnstructuredMagnitude",
        "single weights zeroed by magnitude; flash counts non-zero weights and a bitmap, SRAM does not change",
        (*TRAINING, "pretrain", "rounds"),
    ),
    MethodEntry(
        "evolution", "pruning.baselines.evolution:Evolution",
        "aging evolution over widths inside the budget (uNAS-style), at the compute of one job",
        (*TRAINING, "candidates", "search"),
    ),
    MethodEntry(
        "dense-ptq", "pruning.baselines.dense:DenseNetwork",
        "the unpruned network in int8: a reference, infeasible where it does not fit",
        TRAINING,
    ),
)  # fmt: skip


def method_entries() -> tuple[MethodEntry, ...]:
    """The built-in methods, then those that installed packages add under the entry point ``mcusweep.methods``."""
    own = {entry.name: entry for entry in BUILT_IN}
    for point in _plugins():
        if point.name not in own:
            package = point.dist.name if point.dist is not None else point.module
            own[point.name] = MethodEntry(point.name, point.value, f"from {package}")
    return tuple(own.values())


@cache
def _plugins() -> tuple[EntryPoint, ...]:
    """Reading what is installed takes milliseconds, and is asked for every trial."""
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name))


def find_method(name: str) -> MethodEntry:
    """The method of that name.

    Raises:
        InputError: if there is none; the message lists the available ones.
    """
    entries = {entry.name: entry for entry in method_entries()}
    if name not in entries:
        close = get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"methods.names: unknown method {name!r}; {hint}allowed are {', '.join(entries)}")
    return entries[name]
