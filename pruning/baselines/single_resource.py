"""Differentiable pruning with fewer resources in training than the budget bounds, as in other work."""

from __future__ import annotations

from mcu.budget import RESOURCES, Budget
from mcu.resource_model import ResourceModel
from pruning.differentiable import DifferentiablePruning
from pruning.engine.widths import uniform_widths


class SubsetDifferentiable(DifferentiablePruning):
    """The differentiable job with only some resources in training; landing then meets the whole budget.

    If the budget does not bound such a resource, its target is what the uniform width multiplier uses: these pruners
    need a target, and this is the one that their users would derive.
    """

    seen: tuple[str, ...] = RESOURCES

    def priced(self, model: ResourceModel, budget: Budget) -> Budget:
        """Bounds on the resources that training uses."""
        bounds = budget.bounds()
        fitting = model.exact(uniform_widths(model, budget))
        return Budget(**{name: bounds.get(name, getattr(fitting, name)) for name in self.seen})


class DifferentiableWithoutSram(SubsetDifferentiable):
    """Weights and multiply-accumulates are constrained in training, peak memory is not.

    As in DSA (Ning et al., ECCV 2020) and PIT (Risso et al., arXiv 2310.07217). Hyperparameters: as ``differentiable``.
    """

    name = "differentiable-no-sram"
    seen = ("flash", "macs")


class DifferentiableMacsOnly(SubsetDifferentiable):
    """Only multiply-accumulates are constrained, as in MorphNet (Gordon et al., CVPR 2018) with its FLOP loss.

    Hyperparameters: as ``differentiable``.
    """

    name = "differentiable-macs-only"
    seen = ("macs",)
