"""Channel pruning by criteria on a trained network, each as Torch-Pruning implements it."""

from __future__ import annotations

from typing import Any

import torch_pruning as tp

from pruning.baselines.peer import Gradients, PeerPruning, loss_gradients
from pruning.training.job import Job


class RandomChannels(PeerPruning):
    """Channels removed at random: the lower baseline for any criterion.

    Mittal et al., "Studying the plasticity in deep convolutional neural networks using random pruning", 2019.
    """

    name = "random"
    scope = "local"

    def importance(self) -> Any:
        """A uniform random number per channel."""
        return tp.importance.RandomImportance()


class L1Filters(PeerPruning):
    """Removes filters with the smallest L1 norm (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017)."""

    name = "l1"
    scope = "local"
    order = 1

    def importance(self) -> Any:
        """Norm (its ``order``-th power) of the filter that writes the channel, over the mean of its layer."""
        return tp.importance.MagnitudeImportance(p=self.order, group_reduction="first")


class L2Filters(L1Filters):
    """Removes filters with the smallest L2 norm (Li et al., ICLR 2017, who compare both norms)."""

    name = "l2"
    order = 2


class GeometricMedian(PeerPruning):
    """Removes filters nearest to the others of their layer: FPGM (He et al., CVPR 2019)."""

    name = "fpgm"
    scope = "local"

    def importance(self) -> Any:
        """Sum of distances to the other filters."""
        return tp.importance.FPGMImportance()


class TaylorChannels(PeerPruning):
    """Channels whose removal changes the loss least, to first order (Molchanov et al., CVPR 2019)."""

    name = "taylor"

    def importance(self) -> Any:
        """Sum of |weight x gradient| over the coupled layers."""
        return tp.importance.TaylorImportance()

    def gradients(self, job: Job) -> Gradients:
        """Gradients on a few training batches."""
        return loss_gradients(job)
