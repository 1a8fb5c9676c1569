"""Averages of weights and statistics taken anew."""

import pytest
import torch
from torch import nn

from pruning.training.averaging import WeightAverage, recalibrate
from pruning.training.evaluation import normalise


def test_the_average_forgets_over_its_window():
    weight = torch.zeros(3)
    average = WeightAverage({"w": weight}, window=4)
    for value in (8.0, 4.0, 0.0, 0.0, 16.0):
        weight.fill_(value)
        average.update()
    # plain mean of the first four (3.0), then a quarter of the fifth
    assert average.mean["w"].tolist() == pytest.approx([3 + (16 - 3) / 4] * 3)


def test_swapping_twice_changes_nothing():
    weight = torch.ones(2)
    average = WeightAverage({"w": weight}, window=2)
    weight.fill_(3.0)
    average.update()
    weight.fill_(5.0)
    average.swap()
    assert weight.tolist() == [3.0, 3.0]
    average.swap()
    assert weight.tolist() == [5.0, 5.0]


def test_recalibrated_statistics_are_those_of_the_training_data(problem):
    module = nn.Sequential(nn.BatchNorm2d(1))
    module[0].running_mean.fill_(7.0)
    module.eval()
    recalibrate(module, problem)
    x = normalise(torch.as_tensor(problem.x_train), problem)
    assert module[0].running_mean.item() == pytest.approx(float(x.mean()), abs=1e-3)
    assert module[0].momentum == 0.1
    assert not module.training
