"""Your own network and your own data for a sweep.

`mcusweep launch examples/your_own_network.toml` calls the two functions below by name:

* ``recordings`` returns arrays: ``x`` ``(samples, channels, height, width)`` and labels ``y`` that count from 0.
  Here they come from a simulated accelerometer on a machine; put your own in their place.
* ``two_scales`` returns a ``torch.nn.Module`` for the input shape and the number of classes it is given.

Run as a script, this file writes the same recordings to ``vibration.npz``, as a file of yours may look.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

SAMPLE_RATE = 800  # Hz
SAMPLES = 128
STATES = ("off", "running", "unbalanced", "bearing damage")


def recordings(recordings: int = 2400, seed: int = 0) -> dict[str, np.ndarray]:
    """Windows of a simulated three-axis accelerometer, ``(recordings, 3, 128, 1)``, in four states of a machine."""
    rng = np.random.default_rng(seed)
    labels = np.arange(recordings) % len(STATES)
    windows = np.stack([_window(STATES[label], rng) for label in labels])
    return {"x": windows[..., None].astype(np.float32), "y": labels, "classes": np.array(STATES)}


def _window(state: str, rng: np.random.Generator) -> np.ndarray:
    """Three axes by 128 samples, in g: gravity, rotation, its second harmonic, impacts and noise."""
    time = np.arange(SAMPLES) / SAMPLE_RATE
    rotation, phase = rng.uniform(20, 60), rng.uniform(0, 2 * np.pi, 3)
    gain = {"off": 0.0, "running": 0.1, "unbalanced": 0.2, "bearing damage": 0.1}[state] * rng.lognormal(0, 0.25)
    turn = 2 * np.pi * rotation * time
    signal = gain * np.sin(turn + phase[:, None]) + 0.3 * gain * np.sin(2 * turn + 2 * phase[:, None])
    if state == "bearing damage":
        signal += _impacts(time, rotation, rng)
    tilt = rng.normal(0, 0.05, 3) + np.array([0.0, 0.0, 1.0])
    return tilt[:, None] + signal + rng.normal(0, 0.05, (3, SAMPLES))


def _impacts(time: np.ndarray, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """Short ringing after each pass over the damage, 3.6 times a turn."""
    since = np.mod(time + rng.uniform(0, 1), 1 / (3.6 * rotation))
    ring = np.exp(-since * 600) * np.sin(2 * np.pi * 260 * since)
    return rng.uniform(0.1, 0.3) * rng.uniform(0.4, 1, 3)[:, None] * ring


class TwoScales(nn.Module):
    """A short and a long filter bank over time side by side, then what they have in common, with a shortcut."""

    def __init__(self, axes: int, classes: int, channels: int) -> None:
        super().__init__()
        self.short = _convolution(axes, channels, 3)
        self.long = _convolution(axes, channels, 9)
        self.pool = nn.MaxPool2d((2, 1))
        self.mix = _convolution(2 * channels, 2 * channels, 3)
        self.deepen = _convolution(2 * channels, 2 * channels, 3)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, axes, samples, 1)`` to scores ``(batch, classes)``."""
        x = self.pool(torch.cat([self.short(x), self.long(x)], dim=1))
        x = self.pool(self.mix(x))
        x = x + self.deepen(x)
        return self.head(torch.flatten(self.average(x), 1))


def _convolution(inputs: int, outputs: int, length: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, (length, 1), padding=(length // 2, 0), bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def two_scales(input_shape: tuple[int, int, int], classes: int, channels: int = 24) -> nn.Module:
    """The network of this example for recordings of shape ``(axes, samples, 1)``."""
    return TwoScales(input_shape[0], classes, channels)


if __name__ == "__main__":
    file = Path(__file__).with_name("vibration.npz")
    arrays = recordings()
    np.savez_compressed(file, **(arrays | {"x": arrays["x"][..., 0]}))
    print(f"wrote {file}")
