"""Low-rank factorisation of convolutions: two smaller layers in sequence instead of fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from mcu.budget import Budget
from mcu.graph.layers import Convolution
from mcu.graph.places import Place
from pruning.baselines.floor import used_by
from pruning.engine.widths import first_fit
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.pretraining import pretrain, pretrained_steps
from pruning.training.problem import Infeasible, Problem, Settings
from pruning.training.run import Steps

Ranks = Mapping[str, int]


class LowRank(Compression):
    """Every convolution becomes one with few filters and a 1x1 convolution that mixes them, by truncated SVD.

    Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016 (without their response-driven weighting).
    The compression parameter is the fraction of the full rank that is kept, equal for all layers; layers that would not
    shrink, depthwise layers and the classifier are not factorised. Activations keep their size, so SRAM hardly changes.
    Hyperparameters: those of ``pruning.training.recipe`` and ``pretrain`` (fraction of the float steps before the
    factorisation).
    """

    name = "low-rank"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if rank 1 in every convolution exceeds the budget."""
        dense = problem.constraints.trace(problem.network()).module
        least = used_by(factorised(dense, ranks_at(dense, 0.0)), problem)
        if self._ranks(dense, problem, budget) is None:
            return Infeasible("over budget even at rank 1 in every convolution", least)
        return None

    def compress(self, job: Job) -> Steps:
        """Pre-train, then factorise with the largest ranks that fit (they depend on shapes alone)."""
        pretrained = pretrained_steps(job.hyperparameters, job.float_steps)
        yield from pretrain(job, pretrained)
        if "ranks" not in job.notes:
            ranks = self._ranks(job.network.module, job.problem, job.budget) or {}
            job.notes["ranks"] = dict(ranks)
            job.replace(factorised(job.network.module, ranks))

    def rebuild(self, module: fx.GraphModule, notes: Mapping[str, Any]) -> fx.GraphModule:
        """The network with its convolutions factorised."""
        return factorised(module, notes["ranks"]) if "ranks" in notes else module

    def _ranks(self, dense: fx.GraphModule, problem: Problem, budget: Budget) -> dict[str, int] | None:
        return first_fit(
            lambda cut: ranks_at(dense, 1 - cut), lambda ranks: used_by(factorised(dense, ranks), problem), budget
        )


def ranks_at(module: nn.Module, fraction: float) -> dict[str, int]:
    """Rank by path, at least 1, of every convolution that shrinks if ``fraction`` (0..1) of its full rank is kept."""
    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            inner = layer.weight[0].numel()
            rank = max(1, int(fraction * min(inner, layer.out_channels) + 1e-9))
            if rank * (inner + layer.out_channels) < inner * layer.out_channels:
                found[path] = rank
    return found


@torch.no_grad()
def factorised(module: fx.GraphModule, ranks: Ranks) -> fx.GraphModule:
    """A copy with each named convolution replaced by two in sequence; at full rank it computes the same."""
    network = copy.deepcopy(module)
    for node in list(network.graph.nodes):
        path = str(node.target)
        if node.op != "call_module" or path not in ranks:
            continue
        layer = network.get_submodule(path)
        if isinstance(layer, nn.Conv2d):  # not of an earlier use
            network.set_submodule(path, _pair(layer, ranks[path]))
        with network.graph.inserting_before(node):
            value = node.args[0]
            for part in (f"{path}.0", f"{path}.1"):
                value = network.graph.call_module(part, (value,))
                value.meta["place"] = Place(part)
        node.replace_all_uses_with(value)
        network.graph.erase_node(node)
    network.recompile()
    return network


def _pair(layer: Any, rank: int) -> nn.Sequential:
    """The best approximation of a convolution by ``rank`` filters and a 1x1 convolution (Eckart and Young)."""
    left, values, right = torch.linalg.svd(layer.weight.flatten(1).double(), full_matrices=False)
    root = values[:rank].sqrt()
    shape: Any = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    first = Convolution(layer.in_channels, rank, **shape, bias=False)
    second = Convolution(rank, layer.out_channels, 1, bias=layer.bias is not None)
    first.weight.copy_((root[:, None] * right[:rank]).view_as(first.weight))
    second.weight.copy_((left[:, :rank] * root).view_as(second.weight))
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).to(layer.weight.device)
