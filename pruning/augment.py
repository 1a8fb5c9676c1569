"""Augmentation of whole batches that live in memory: no per-image Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mcu.errors import InputError

Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _shift(x: torch.Tensor, generator: torch.Generator, reach: int = 2, across: int = 2) -> torch.Tensor:
    """Move each image by up to ``reach`` rows and ``across`` columns, zeros moving in."""
    count, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (across, across, reach, reach))
    dy = torch.randint(0, 2 * reach + 1, (count, 1), generator=generator).to(x.device)
    dx = torch.randint(0, 2 * across + 1, (count, 1), generator=generator).to(x.device)
    rows = (dy + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (dx + torch.arange(width, device=x.device))[:, None, None, :]
    images = torch.arange(count, device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[images, channels, rows, columns]


def _flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images."""
    chosen = torch.rand(len(x), generator=generator).to(x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(3), x)


def _time_shift(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each spectrogram or recording by up to a tenth of its length in time, silence moving in."""
    return _shift(x, generator, reach=max(1, x.shape[2] // 10), across=0)


def _none(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x


def _shift_flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _flip(_shift(x, generator), generator)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": _none,
    "shift": _shift,
    "shift_flip": _shift_flip,
    "time_shift": _time_shift,
}


def augmentation(name: str) -> Augmentation:
    """The batch augmentation of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"task augment = {name!r}: allowed are {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name]
