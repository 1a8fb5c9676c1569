"""One job of a network with every operator there is: it ends inside its budget, and the interpreter agrees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mcu.budget import Budget
from mcu.graph.kinds import Kind
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from pruning.differentiable import DifferentiablePruning
from pruning.training.evaluation import int8_inputs

WRITTEN = set(Kind) - {Kind.DENSE, Kind.MEAN, Kind.RESHAPE, Kind.SOFTMAX}


class Everything(nn.Module):
    """Squeeze-and-excitation, groups, a small U, slopes, gates of several kinds, constants."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1))
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, groups=4), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2, 1))
        self.deep = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.BatchNorm2d(12), nn.ReLU())
        self.up = nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(12, 8, 2), nn.ELU())
        self.grow = nn.Sequential(nn.ConvTranspose2d(8, 8, 3, 3), nn.PReLU(8))
        self.scores = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem((x - 0.1) / 0.5)
        x = x * torch.sigmoid(self.squeeze(x))
        small = self.up(self.deep(self.deep(self.down(x))))
        y = functional.interpolate(small, scale_factor=2)
        y = y + functional.interpolate(self.grow(small), y.shape[2:], mode="bilinear", align_corners=True)
        z = functional.relu(torch.tanh(y) + x)
        z = torch.cat([functional.relu(y * functional.max_pool2d(z, 3, 1, 1)), functional.max_pool2d(z, 3, 1, 1)], 1)
        z = z[:, :, ::2]
        z = z + z.flip(1)
        return self.scores(functional.dropout(z, 0.1, self.training).mean((2, 3)))


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
def test_a_network_of_every_operator_is_pruned_into_its_budget(problem, settings):
    def network() -> nn.Module:
        torch.manual_seed(0)
        return Everything()

    whole = replace(problem, network=network)
    dense = whole.constraints.model(network())
    assert {op.kind for op in dense.graph.ops} == WRITTEN
    used = dense.exact(dense.dense_widths)
    budget = Budget(flash=used.flash - 900, macs=used.macs // 2)
    outcome = DifferentiablePruning().run(whole, budget, settings, lambda progress: True)
    assert budget.admits(whole.runtime.measure(outcome.model, outcome.data))
    codes = int8_inputs(outcome.model, whole.x_val[:32], whole)
    assert np.array_equal(ReferenceInterpreter(outcome.model).run(codes), tflm.run(outcome.data, codes))
