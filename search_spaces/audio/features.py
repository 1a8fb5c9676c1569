"""The front end in torch: clips of sound to MFCC or log-mel features. The firmware's C does the same arithmetic."""

from __future__ import annotations

import numpy as np
import torch

from mcu.front_end import FLOOR, Features, FrontEnd
from search_spaces.tasks.rows import Rows, chunks


def features(clips: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """Features ``(n, 1, frames, values)`` of clips ``(n, samples)``, floats in -1..1.

    The magnitude spectrum of Hann-windowed frames is summed in triangular mel bands; the natural logarithm of
    that plus 1e-6 is the log-mel feature, its DCT-II the MFCC. Centred features lose their mean over the clip.
    """
    hann = torch.from_numpy(front_end.hann().astype(np.float32))
    bands = torch.from_numpy(front_end.mel_matrix().astype(np.float32))
    frames = clips[:, : front_end.samples].unfold(1, front_end.window, front_end.stride) * hann
    logarithms = torch.log(torch.fft.rfft(frames, front_end.fft).abs() @ bands + FLOOR)
    found = logarithms
    if front_end.kind is Features.MFCC:
        found = logarithms @ torch.from_numpy(front_end.dct().astype(np.float32))
    if front_end.centred:
        found = found - found.mean(1, keepdim=True)
    return found.unsqueeze(1)


def features_of(clips: np.ndarray | Rows, front_end: FrontEnd) -> np.ndarray:
    """Features, float32 ``(n, 1, frames, values)``, of 16-bit clips ``(n, samples)``; chunk by chunk."""
    parts = [features(torch.from_numpy(chunk.astype(np.float32) / 32768), front_end).numpy() for chunk in chunks(clips)]
    return np.concatenate(parts)
