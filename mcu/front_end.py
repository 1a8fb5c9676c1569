"""The audio front end (sound to network input): parameters and tables shared by training and firmware."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mcu.errors import InputError

FLOOR = 1e-6
"""Added to every mel energy before the logarithm: 0 stays finite."""


class Features(StrEnum):
    """Features computed from a frame of sound."""

    MFCC = "mfcc"
    LOG_MEL = "log_mel"


@dataclass(frozen=True)
class FrontEnd:
    """Frames of sound, Hann window, magnitude spectrum, triangular mel bands, logarithm and, for MFCC, a DCT.

    The defaults are the keyword front end of "Hello Edge" (Zhang et al., arXiv 1711.07128) and MLPerf Tiny:
    one second at 16 kHz becomes 49 frames of 10 coefficients.

    Attributes:
        sample_rate: samples a second.
        samples: length of a clip.
        window, stride: samples of a frame, and from one frame to the next.
        fft: points of the Fourier transform, a power of 2.
        mels: number of bands between ``low_hz`` and ``high_hz``.
        coefficients: kept of the DCT; with log-mel features unused.
        centred: whether the mean over the clip is subtracted from each feature, which removes most of the effect of
            microphone, room and level (cepstral mean normalisation, Atal, J. Acoust. Soc. Am. 55, 1974).

    Raises:
        InputError: naming the parameter that does not fit the others.
    """

    sample_rate: int = 16_000
    samples: int = 16_000
    window: int = 640
    stride: int = 320
    fft: int = 1024
    mels: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0
    coefficients: int = 10
    kind: Features = Features.MFCC
    centred: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Features(self.kind))
        rules = (
            (self.fft >= 16 and self.fft & (self.fft - 1) == 0, f"fft = {self.fft}: must be a power of 2 from 16"),
            (1 <= self.window <= self.fft, f"window = {self.window}: must be 1 to fft = {self.fft}"),
            (self.window % 2 == 0, f"window = {self.window}: must be even"),
            (self.stride >= 1, f"stride = {self.stride}: must be at least 1"),
            (self.samples >= self.window, f"samples = {self.samples}: must be at least window = {self.window}"),
            (
                0 <= self.low_hz < self.high_hz <= self.sample_rate / 2,
                f"low_hz = {self.low_hz:g}, high_hz = {self.high_hz:g}: "
                f"must rise and end at half the rate, {self.sample_rate / 2:g}",
            ),
            (1 <= self.mels <= 255, f"mels = {self.mels}: must be 1 to 255"),
            (1 <= self.coefficients <= self.mels, f"coefficients = {self.coefficients}: must be 1 to {self.mels}"),
        )
        for holds, message in rules:
            if not holds:
                raise InputError(f"front end: {message}")

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return 1 + (self.samples - self.window) // self.stride

    @property
    def values(self) -> int:
        """Features of a frame."""
        return self.coefficients if self.kind is Features.MFCC else self.mels

    def hann(self) -> np.ndarray:
        """Periodic Hann window, float64 ``(window,)``."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)

    def mel_matrix(self) -> np.ndarray:
        """Weight of each spectral line in each band, float64 ``(fft / 2 + 1, mels)``; triangles of height 1."""
        position = self.band_position()
        bands = np.arange(self.mels)[None]
        weights = np.maximum(0, 1 - np.abs(position[:, None] - bands - 1))
        weights[0] = 0  # no constant part
        return weights

    def band_position(self) -> np.ndarray:
        """Where each spectral line lies between the bands' edges, float64 ``(fft / 2 + 1,)``.

        Band ``b`` peaks at position ``b + 1`` and ends at ``b`` and ``b + 2``; edges are even on the mel scale
        1127 ln(1 + f / 700).
        """
        mel = _mel(np.arange(self.fft // 2 + 1) * self.sample_rate / self.fft)
        low, high = _mel(np.array([self.low_hz, self.high_hz]))
        return (mel - low) / (high - low) * (self.mels + 1)

    def dct(self) -> np.ndarray:
        """Orthogonal DCT-II but for the first row's scale, float64 ``(mels, coefficients)``."""
        band, order = np.arange(self.mels)[:, None], np.arange(self.coefficients)[None]
        return np.cos(np.pi / self.mels * (band + 0.5) * order) * np.sqrt(2 / self.mels)


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hertz / 700.0)
