"""Channel pruning after sparsity regularisation, with Torch-Pruning's own regularisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch_pruning as tp
from torch import fx

from pruning.baselines.peer import PeerPruning, torch_pruning_errors
from pruning.differentiable import LONGEST_PRUNING
from pruning.training.job import Job


class SparsePeerPruning(PeerPruning):
    """Pre-training adds Torch-Pruning's sparsity gradients to those of the loss; pruning and fine-tuning do not change.

    Hyperparameters: those of ``PeerPruning`` and the regulariser's weight, whose name and default are the method's.
    """

    penalty = ""
    default = 0.0
    heir_defaults: Mapping[str, Any] = {"pretrain": LONGEST_PRUNING}

    def sparsify(self, job: Job) -> None:
        """Regularise until the first pruning."""
        scope = str(job.hyperparameters.get("scope", self.scope))
        with torch_pruning_errors():
            regularize = self.pruner(job.network.module, job, 0.5, scope).regularize
        job.trainer.gradient_hook = torch_pruning_errors()(regularize)

    def learning(self, job: Job) -> str:
        """The method, its scope and the regulariser's weight."""
        scope = str(job.hyperparameters.get("scope", self.scope))
        return f"{self.name} {scope} {self.weight(job)!r}"

    def weight(self, job: Job) -> float:
        """The regulariser's weight."""
        return float(job.hyperparameters.get(self.penalty, self.default))


class Slimming(SparsePeerPruning):
    """An L1 penalty on batch-normalisation scales, then channels with the smallest scales are removed.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017. Without the penalty the
    scales stay near their initial value 1, and the criterion does not rank channels. Its weight is
    ``slimming_penalty``.
    """

    name = "slimming"
    penalty, default = "slimming_penalty", 1e-4

    def importance(self) -> Any:
        """Batch-normalisation scale."""
        return tp.importance.BNScaleImportance()

    def pruner(self, network: fx.GraphModule, job: Job, ratio: float, scope: str) -> Any:
        """Torch-Pruning's network slimming."""
        options = self.pruner_options(network, job, ratio, scope)
        return tp.pruner.BNScalePruner(network, reg=self.weight(job), **options)


class GroupNorm(PeerPruning):
    """Channels are ranked by the norm over all coupled layers: DepGraph without sparse learning.

    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
    """

    name = "group-norm"

    def importance(self) -> Any:
        """Squared norm over the coupled layers."""
        return tp.importance.GroupMagnitudeImportance(p=2)


class SparseGroupNorm(SparsePeerPruning):
    """DepGraph with sparse learning: weights of groups with a small norm decay faster in pre-training.

    Fang et al., CVPR 2023. The weight of the decay is ``group_penalty``.
    """

    name = "group-norm-sparse"
    penalty, default = "group_penalty", 5e-4

    def importance(self) -> Any:
        """Squared norm over the coupled layers."""
        return tp.importance.GroupMagnitudeImportance(p=2)

    def pruner(self, network: fx.GraphModule, job: Job, ratio: float, scope: str) -> Any:
        """Torch-Pruning's group-norm pruner."""
        options = self.pruner_options(network, job, ratio, scope)
        return tp.pruner.GroupNormPruner(network, reg=self.weight(job), **options)
