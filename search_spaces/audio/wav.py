"""Recordings from .wav files: 16-bit, one channel, at a known rate; anything else is refused by name."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from mcu.errors import InputError


def read_wav(path: Path, rate: int | None = None) -> tuple[np.ndarray, int]:
    """Samples, int16 ``(n,)``, and their rate in Hz.

    Args:
        rate: what the rate must be; None takes any.

    Raises:
        InputError: one line naming the file, what it holds and what is allowed.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, found, promised = file.getparams()[:4]
            content = file.readframes(promised)
    except (OSError, EOFError, wave.Error, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: is not a whole .wav file: {error or 'it ends too early'}") from None
    if (channels, width) != (1, 2):
        raise InputError(f"{path}: has {channels} channels of {8 * width} bits, must be one of 16 bits")
    if rate is not None and found != rate:
        raise InputError(f"{path}: has {found:,} samples a second, must have {rate:,}")
    if len(content) < 2 * promised or not content:
        raise InputError(f"{path}: is not a whole .wav file: {len(content) // 2:,} of {promised:,} samples are there")
    return np.frombuffer(content, "<i2").astype(np.int16), found
