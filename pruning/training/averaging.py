"""The mean of the last weights: an exponential moving average, and batch statistics taken anew."""

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
        tensors: parameters and running statistics by path; their shapes must not change any more.
        window: steps over which the average forgets.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], window: float) -> None:
        self.tensors = dict(tensors)
        self.mean = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.window = max(1.0, window)
        self.count = 0

    def update(self) -> None:
        """Fold in the present weights; the first updates weigh more, so that the start is forgotten at once."""
        self.count += 1
        weight = max(1 / self.window, 1 / self.count)
        torch._foreach_lerp_(list(self.mean.values()), [t.detach() for t in self.tensors.values()], weight)

    def swap(self) -> None:
        """Exchange the network's weights and the average."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                present = tensor.detach().clone()
                tensor.copy_(self.mean[name])
                self.mean[name] = present

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs to go on."""
        return self.mean | {"": torch.tensor(self.count)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a checkpoint."""
        self.count = int(state[""])
        for name, mean in self.mean.items():
            mean.copy_(state[name])


def recalibrate(module: nn.Module, problem: Problem) -> None:
    """Take the running statistics of every batch normalisation anew: means over training samples as they are.

    Statistics gathered while weights moved and channels left lag behind the final weights.
    """
    device = next(module.parameters()).device
    wanted = RECALIBRATION_BATCHES * RECALIBRATION_BATCH
    samples = torch.as_tensor(problem.x_train[:: max(1, len(problem.x_train) // wanted)][:wanted])
    batches = (channels_last(normalise(batch.to(device), problem)) for batch in samples.split(RECALIBRATION_BATCH))
    update_bn(batches, module)
