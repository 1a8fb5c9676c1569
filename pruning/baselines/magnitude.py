"""Unstructured pruning: single weights become zero, layers keep their shapes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.int8.model import Int8Model
from mcu.units import format_bytes
from pruning.baselines.floor import dense_model
from pruning.baselines.packing import saved_by_packing, saved_bytes
from pruning.baselines.peer import Rounds
from pruning.engine.widths import first_fit
from pruning.methods import Compression
from pruning.training.job import Job
from pruning.training.pretraining import pretrain
from pruning.training.problem import Infeasible, Outcome, Problem, Settings
from pruning.training.run import Steps


class UnstructuredMagnitude(Compression):
    """The smallest weights of the whole network become zero, one-shot or in rounds.

    Han et al., "Learning both Weights and Connections", NeurIPS 2015; Zhu and Gupta, "To prune, or not to prune", 2017.
    Flash is charged with the non-zero weights and a bitmap of one bit per weight, as if a runtime supported this
    format. No runtime here does: TensorFlow Lite Micro stores and computes the zeros, so a trial is feasible only where
    the dense network is, and its reason gives the charged size. SRAM and multiply-accumulates do not change.
    Hyperparameters: those of ``pruning.training.recipe``, ``pretrain`` and ``rounds``.
    """

    name = "magnitude"

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if zero weights cannot meet the budget."""
        model = dense_model(problem)
        return _out_of_reach(problem, model.exact(model.dense_widths), budget)

    def compress(self, job: Job) -> Steps:
        """Pre-train, zero weights in rounds until the charged size fits."""
        job.charge = charged
        dense = job.network.dense
        rounds = Rounds.of(job.hyperparameters, job.float_steps)
        yield from pretrain(job, rounds.steps[0])
        for step, share in zip(rounds.steps, rounds.shares, strict=True):
            job.trainer.gradient_hook = keep_zeros if job.step > rounds.steps[0] else None
            yield from job.train("pruning", step)
            if job.step == step:
                module = job.network.module
                zero_smallest(module, _least_sparsity(module, rounds.target(share, dense, job.budget), dense))
                job.set_module(module)
        job.trainer.gradient_hook = keep_zeros

    def conclude(self, job: Job, outcome: Outcome) -> Outcome:
        """Adds the reason if the file exceeds the budget."""
        dense = job.network.dense
        return outcome if job.budget.admits(dense) else replace(outcome, shortfall=_shortfall(outcome, dense))


def _out_of_reach(problem: Problem, dense: Resources, budget: Budget) -> Infeasible | None:
    """Infeasible if a bound on SRAM or MACs is exceeded, or the bound on flash even without any weight."""
    sizes = [weight.numel() for weight in weights_of(problem.network())]
    least = replace(dense, flash=dense.flash - sum(saved_bytes(size, 0) for size in sizes))
    if budget.admits(least):
        return None
    return Infeasible(
        f"zeroing weights changes neither SRAM ({format_bytes(dense.sram)}) nor multiply-accumulates ({dense.macs:,}), "
        f"and flash not below {format_bytes(least.flash)}",
        least,
    )


def weights_of(module: nn.Module) -> list[torch.Tensor]:
    """The tensors that are pruned: weights of convolutions and dense layers."""
    return [layer.weight for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Conv1d | nn.Linear)]


def _least_sparsity(module: nn.Module, target: Budget, dense: Resources) -> float:
    """The least fraction of all weights to zero with which the charged size meets the target."""
    magnitudes = [weight.detach().abs().flatten() for weight in weights_of(module)]

    def used(sparsity: float) -> Resources:
        threshold = _threshold(magnitudes, sparsity)
        saved = sum(saved_bytes(len(own), int((own > threshold).sum())) for own in magnitudes)
        return replace(dense, flash=dense.flash - saved)

    found = first_fit(lambda cut: cut, used, target)
    return 1.0 if found is None else found


def _threshold(magnitudes: list[torch.Tensor], sparsity: float) -> float:
    """Magnitude that a fraction ``sparsity`` of all weights does not exceed."""
    ordered = torch.cat(magnitudes).sort().values
    count = round(sparsity * len(ordered))
    return float(ordered[count - 1]) if count else -1.0


@torch.no_grad()
def zero_smallest(module: nn.Module, sparsity: float) -> None:
    """Zero a fraction ``sparsity`` of all weights, the smallest ones."""
    weights = weights_of(module)
    threshold = _threshold([weight.abs().flatten() for weight in weights], sparsity)
    for weight in weights:
        weight.mul_(weight.abs() > threshold)


@torch.no_grad()
def keep_zeros(module: nn.Module) -> None:
    """Zero the gradient of every weight that is exactly zero; without momentum it stays zero."""
    for parameter in module.parameters():
        if parameter.grad is not None and parameter.dim() > 1:
            parameter.grad.mul_(parameter != 0)


def charged(model: Int8Model, measured: Resources) -> Resources:
    """Resources of a finished model if its weights were stored packed."""
    return replace(measured, flash=measured.flash - saved_by_packing(model))


def _shortfall(outcome: Outcome, dense: Resources) -> str:
    size = format_bytes(len(outcome.data) - saved_by_packing(outcome.model))
    return (
        f"with packed weights it would take {size} of flash, but no kernel of the runtime uses "
        f"packed weights: the file takes {format_bytes(len(outcome.data))}; SRAM stays at {format_bytes(dense.sram)}"
    )
