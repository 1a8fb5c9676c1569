"""What other differentiable pruners optimise: fewer resources than the microcontroller bounds."""

from __future__ import annotations

from mcu.budget import RESOURCES, Budget
from mcu.resource_model import ResourceModel
from pruning.baselines.uniform import uniform_widths
from pruning.differentiable import DifferentiablePruning


class SubsetDifferentiable(DifferentiablePruning):
    """The differentiable job whose training sees some resources only; landing then meets the whole budget.

    Where the budget does not bound a resource that training sees, its target is what the uniform width multiplier
    takes of it: such pruners need a target, and this is the one their users would derive.
    """

    seen: tuple[str, ...] = RESOURCES

    def priced(self, model: ResourceModel, budget: Budget) -> Budget:
        """Bounds on the seen resources only."""
        bounds = budget.bounds()
        fitting = model.exact(uniform_widths(model, budget))
        return Budget(**{name: bounds.get(name, getattr(fitting, name)) for name in self.seen})


class DifferentiableWithoutSram(SubsetDifferentiable):
    """Weights and multiply-accumulates are priced, peak memory is not.

    As in DSA (Ning et al., ECCV 2020) and PIT (Risso et al., arXiv 2310.07217). Hyperparameters: as ``differentiable``.
    """

    name = "differentiable-no-sram"
    seen = ("flash", "macs")


class DifferentiableMacsOnly(SubsetDifferentiable):
    """Multiply-accumulates are priced and nothing else, as in MorphNet (Gordon et al., CVPR 2018) with its FLOP loss.

    Hyperparameters: as ``differentiable``.
    """

    name = "differentiable-macs-only"
    seen = ("macs",)
