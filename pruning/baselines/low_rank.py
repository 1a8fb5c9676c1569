"""Low-rank factorisation of convolutions: thinner layers in a row instead of fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from mcu.budget import Budget
from mcu.graph.places import Place
from pruning.baselines.floor import used_by
from pruning.engine.widths import first_fit
from pruning.training.parent import begin
from pruning.training.pretraining import pretrain, pretrained_steps
from pruning.training.problem import Infeasible, Outcome, Problem, Report, Settings
from pruning.training.recipe import TRAINING

Ranks = Mapping[str, int]


class LowRank:
    """Every convolution becomes one with few filters and a 1x1 convolution that mixes them, by truncated SVD.

    Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016 (without their response-driven weighting).
    The knob is the part of the full rank that stays, the same for all layers; layers that would not shrink stay whole,
    depthwise layers and the classifier always do. Activations keep their size, so SRAM hardly moves.
    Hyperparameters: those of ``pruning.training.recipe`` and ``pretrain`` (part of the float steps before the
    factorisation).
    """

    name = "low-rank"
    summary = "convolutions factorised by truncated SVD, then fine-tuned"
    hyperparameters: tuple[str, ...] = (*TRAINING, "pretrain")

    def run(self, problem: Problem, budget: Budget, settings: Settings, report: Report) -> Outcome | Infeasible:
        """Find the ranks that fit (they depend on shapes alone), pre-train, factorise, fine-tune."""
        dense = problem.traced().module
        ranks = first_fit(
            lambda cut: ranks_at(dense, 1 - cut), lambda r: used_by(factorised(dense, r), problem), budget
        )
        if ranks is None:
            least = used_by(factorised(dense, ranks_at(dense, 0.0)), problem)
            return Infeasible("over budget even at rank 1 in every convolution", least)
        run = begin(problem, budget, settings, report, self.name, rebuild=_rebuilt)
        pretrained = pretrained_steps(settings, run.trainer.float_steps)
        pretrain(run, pretrained)
        if run.trainer.step == pretrained:
            run.notes["ranks"] = dict(ranks)
            run.replace(factorised(run.module, ranks))
        run.recover("fine-tuning")
        return run.finish()


def ranks_at(module: nn.Module, part: float) -> dict[str, int]:
    """Rank of every convolution that shrinks when ``part`` (0..1) of its full rank stays, at least 1; by path."""
    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            inner = layer.weight[0].numel()
            rank = max(1, int(part * min(inner, layer.out_channels) + 1e-9))
            if rank * (inner + layer.out_channels) < inner * layer.out_channels:
                found[path] = rank
    return found


@torch.no_grad()
def factorised(module: fx.GraphModule, ranks: Ranks) -> fx.GraphModule:
    """A copy with each named convolution as two in a row; at full rank it computes the same."""
    network = copy.deepcopy(module)
    for node in list(network.graph.nodes):
        if node.op != "call_module" or node.target not in ranks:
            continue
        network.set_submodule(node.target, _pair(network.get_submodule(node.target), ranks[node.target]))
        with network.graph.inserting_before(node):
            value = node.args[0]
            for part in ("0", "1"):
                path = f"{node.target}.{part}"
                value = network.graph.call_module(path, (value,))
                value.meta["place"] = Place(path)
        node.replace_all_uses_with(value)
        network.graph.erase_node(node)
    network.recompile()
    return network


def _pair(layer: Any, rank: int) -> nn.Sequential:
    """The best approximation of a convolution by ``rank`` filters and a 1x1 convolution (Eckart and Young)."""
    left, values, right = torch.linalg.svd(layer.weight.flatten(1).double(), full_matrices=False)
    root = values[:rank].sqrt()
    shape: Any = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    first = nn.Conv2d(layer.in_channels, rank, **shape, bias=False)
    second = nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)
    first.weight.copy_((root[:, None] * right[:rank]).view_as(first.weight))
    second.weight.copy_((left[:, :rank] * root).view_as(second.weight))
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).to(layer.weight.device)


def _rebuilt(module: fx.GraphModule, notes: Mapping[str, Any]) -> fx.GraphModule:
    """The network of a checkpoint, with any weights."""
    return factorised(module, notes["ranks"]) if "ranks" in notes else module
