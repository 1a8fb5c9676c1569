"""A network that a library cannot prune: its methods say so as a result, the others run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mcu.budget import Budget
from pruning.methods import method
from pruning.training.problem import CannotTakeError, Outcome

PEERS = ("l1", "fpgm", "taylor", "slimming", "group-norm-sparse", "random")


def depth_multiplier(classes: int) -> nn.Module:
    """A depthwise convolution with twice as many outputs as inputs, which Torch-Pruning 1.6 indexes past its end."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip


@pytest.fixture
def unusual(problem):
    def build() -> nn.Module:
        torch.manual_seed(0)
        return depth_multiplier(problem.classes)

    return replace(problem, network=build)


def ignore(progress) -> bool:
    return True


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_takes_the_network_or_says_that_it_cannot_before_training(name, unusual, settings):
    reports = []
    try:
        answer = method(name).run(unusual, Budget(flash=8_000), settings, lambda p: reports.append(p) or True)
    except CannotTakeError as error:
        assert str(error).startswith("Torch-Pruning: ")  # noqa: PT017  (either is right)
        assert reports == []
    else:
        assert len(answer.data) <= 8_000


def test_methods_without_the_library_run_on_it(unusual, settings):
    assert isinstance(method("uniform").run(unusual, Budget(flash=8_000), settings, ignore), Outcome)
