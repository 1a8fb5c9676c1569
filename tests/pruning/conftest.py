"""A problem small enough to train in a second: separable 12x12 images of four classes."""

import numpy as np
import pytest
import torch
from torch import nn

from pruning.training.problem import Problem, Settings


class SmallNet(nn.Module):
    """Two convolutions, a residual depthwise-separable block and a dense head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.pointwise = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24))
        self.head = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = (x + self.pointwise(self.depthwise(x))).relu()
        return self.head(self.down(x).relu().mean((2, 3)))


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar whose place tells the class; uint8 ``(N, 1, 12, 12)``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    images = generator.integers(0, 90, (count, 1, 12, 12))
    for image, label in zip(images, labels, strict=True):
        row = 1 + 2 * label
        image[0, row : row + 2, 2:10] += 120
        image[0, :, 3 * label : 3 * label + 2] += 40
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="session")
def problem() -> Problem:
    (x_train, y_train), (x_val, y_val) = images(384, 0), images(128, 1)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return SmallNet()

    return Problem(network, (1, 12, 12), 4, x_train, y_train, x_val, y_val, (0.3,), (0.25,), "shift")


@pytest.fixture
def settings() -> Settings:
    return Settings(epochs=6, batch_size=32, hyperparameters={"learning_rate": 0.05})
