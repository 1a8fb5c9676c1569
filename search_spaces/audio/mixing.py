"""Simulation of recording conditions: position in the clip, speed, room, noise, level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOUDEST = 32767


@dataclass(frozen=True)
class Surroundings:
    """Ranges of random recording conditions.

    Attributes:
        snr_db: of the voice over the noise.
        level_db: root mean square of the voice, relative to full scale.
        speed: largest change of speed, as a natural logarithm.
        equaliser_db: standard deviation of the response at six points of the spectrum.
        reverberation: fraction of the clips that have it.
    """

    snr_db: tuple[float, float] = (0.0, 25.0)
    level_db: tuple[float, float] = (-38.0, -18.0)
    speed: float = 0.13
    equaliser_db: float = 4.0
    reverberation: float = 0.6


def as_int16(x: np.ndarray) -> np.ndarray:
    """Floats in -1..1 as 16-bit samples, clipped."""
    return (np.clip(x, -1, 1) * LOUDEST).astype(np.int16)


def trimmed(x: np.ndarray, rate: int, below_db: float = 38.0) -> np.ndarray:
    """A recording without the quiet parts at both ends, except for 20 ms; levels are those of 10 ms frames."""
    frame = rate // 100
    count = len(x) // frame
    if count < 3:
        return x
    energy = 10 * np.log10(np.square(x[: count * frame].astype(np.float64)).reshape(count, frame).mean(1) + 1e-12)
    loud = np.flatnonzero(energy > energy.max() - below_db)
    return x[max(0, (loud[0] - 2) * frame) : (loud[-1] + 3) * frame]


def faster(x: np.ndarray, factor: float) -> np.ndarray:
    """A recording played ``factor`` times as fast, which also changes the pitch."""
    return np.interp(np.arange(0, len(x) - 1, factor), np.arange(len(x)), x).astype(np.float32)


def placed(x: np.ndarray, samples: int, start: int | None = None) -> np.ndarray:
    """A recording padded with silence to a clip of ``samples``: in the middle, or from ``start`` on."""
    if len(x) > samples:
        cut = (len(x) - samples) // 2
        return x[cut : cut + samples]
    begin = (samples - len(x)) // 2 if start is None else start
    clip = np.zeros(samples, x.dtype)
    clip[begin : begin + len(x)] = x
    return clip


def coloured_noise(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Noise of deviation 1 whose power falls as frequency to the power 0 (white) to 2 (brown); sometimes with a hum."""
    lines = rng.normal(size=samples // 2 + 1) + 1j * rng.normal(size=samples // 2 + 1)
    slope = rng.uniform(0, 1)
    noise = np.fft.irfft(lines * np.maximum(np.arange(samples // 2 + 1), 20.0) ** -slope, samples)
    noise = noise / (noise.std() + 1e-9)
    if rng.random() < 0.2:
        tone = rng.choice([50, 60, 100, 120, 400, 1000])
        phase = 2 * np.pi * tone * np.arange(samples) / rate + rng.uniform(0, 2 * np.pi)
        noise = noise + rng.uniform(0.1, 1) * np.sin(phase)
    return noise.astype(np.float32)


def in_a_room(rng: np.random.Generator, x: np.ndarray, rate: int, around: Surroundings) -> np.ndarray:
    """A clip through a microphone and, in some clips, a reverberating room; of the same length."""
    points = 2 ** int(np.ceil(np.log2(2 * len(x))))
    frequencies = np.arange(points // 2 + 1) * rate / points
    corners = np.log([30, 120, 500, 1500, 4000, 8000])
    gains = np.interp(np.log(np.maximum(frequencies, 30)), corners, rng.normal(0, around.equaliser_db, 6))
    response = 10 ** (gains / 20)
    if rng.random() < around.reverberation:
        length = int(rng.uniform(0.08, 0.5) * rate)
        decay = np.exp(-6.9 * np.arange(length) / length)
        echoes = rng.normal(size=length) * decay * rng.uniform(0.02, 0.12)
        echoes[0] = 1
        response = response * np.fft.rfft(echoes, points)
    return np.fft.irfft(np.fft.rfft(x, points) * response, points)[: len(x)].astype(np.float32)


def at_level(x: np.ndarray, noise: np.ndarray, snr_db: float, level_db: float) -> np.ndarray:
    """Voice and noise mixed at this ratio, the voice's non-silent part at this level relative to full scale."""
    voiced = x[x != 0]
    strength = np.sqrt(np.square(voiced.astype(np.float64)).mean()) if len(voiced) else 0.0
    mixed = x / (strength + 1e-6) + noise * 10 ** (-snr_db / 20)
    return np.asarray(mixed * 10 ** (level_db / 20), np.float32)
