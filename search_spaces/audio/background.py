"""Background noise: long recordings that are cut into clips; each split uses a different part of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search_spaces.audio import mixing
from search_spaces.audio.sound_file import SoundError, read_clip
from search_spaces.tasks.task import SPLITS
from search_spaces.tasks.walk import entries_below

FOLDER = "_background_noise_"


def noise_tracks(folder: Path, rate: int, samples: int) -> list[np.ndarray]:
    """Recordings of a folder that are longer than a clip, int16 at ``rate``; none where there is no folder.

    Raises:
        SoundError: for a recording that is broken.
    """
    found = []
    for entry in entries_below(folder) if folder.is_dir() else ():
        try:
            found.append(read_clip(entry.path, rate))
        except SoundError as error:
            if not error.foreign:
                raise
    return [track for track in found if len(track) > samples]


def noise_clips(tracks: Sequence[np.ndarray], split: str, count: int, samples: int) -> np.ndarray:
    """Clips of noise, int16 ``(count, samples)``, each split's from its own third of every track, at random levels."""
    rng = np.random.default_rng(list(split.encode()))
    return np.stack(
        [(noise_cut(tracks, split, samples, rng) * rng.uniform(0, 1)).astype(np.int16) for _ in range(count)]
    )


def noise_cut(tracks: Sequence[np.ndarray], split: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A clip of noise, unscaled, from the split's third of a track."""
    third = SPLITS.index(split)
    track = tracks[int(rng.integers(len(tracks)))]
    low, high = third * len(track) // 3, (third + 1) * len(track) // 3
    start = int(rng.integers(low, max(low + 1, high - samples)))
    return mixing.placed(track[start : min(start + samples, high)], samples)
