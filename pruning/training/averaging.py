"""Weight averaging: an exponential moving average, and recomputed batch-norm statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from pruning.training.evaluation import channels_last, normalise
from pruning.training.problem import Problem

RECALIBRATION_BATCHES = 20
RECALIBRATION_BATCH = 500


class WeightAverage:
    """Exponential moving average of a network's tensors (Polyak & Juditsky, 1992), one update per step.

    Args:
        tensors: parameters and running statistics by path; their shapes must not change afterwards.
        window: time constant of the average, in steps.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], window: float) -> None:
        self.tensors = dict(tensors)
        self.mean = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.window = max(1.0, window)
        self.count = 0

    def update(self) -> None:
        """Update the average with the current weights; the first updates weigh more, to forget the initial values."""
        self.count += 1
        weight = max(1 / self.window, 1 / self.count)
        torch._foreach_lerp_(list(self.mean.values()), [t.detach() for t in self.tensors.values()], weight)

    def swap(self) -> None:
        """Swap the network's weights and the average."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                present = tensor.detach().clone()
                tensor.copy_(self.mean[name])
                self.mean[name] = present

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State for a checkpoint."""
        return self.mean | {"": torch.tensor(self.count)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state of a checkpoint."""
        self.count = int(state[""])
        for name, mean in self.mean.items():
            mean.copy_(state[name])


def recalibrate(module: nn.Module, problem: Problem) -> None:
    """Recompute the running statistics of every batch normalisation: means over training samples without augmentation.

    Statistics collected while weights and channels changed lag behind the final weights.
    """
    device = next(module.parameters()).device
    wanted = RECALIBRATION_BATCHES * RECALIBRATION_BATCH
    samples = torch.as_tensor(problem.x_train[:: max(1, len(problem.x_train) // wanted)][:wanted])
    batches = (channels_last(normalise(batch.to(device), problem)) for batch in samples.split(RECALIBRATION_BATCH))
    update_bn(batches, module)
