"""Augmentation of whole batches in memory, without per-image Python code."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mcu.errors import InputError
from mcu.terms import Augmentation

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


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


def _spec_augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Time shift, then up to a tenth of the frames and up to a fifth of the bands set to the mean.

    Park et al., SpecAugment, arXiv 1904.08779, without the warping.
    """
    return _masked(_masked(_time_shift(x, generator), generator, 2, 0.1), generator, 3, 0.2)


def _masked(x: torch.Tensor, generator: torch.Generator, axis: int, share: float) -> torch.Tensor:
    """A run of random place and length along an axis set to 0 in each sample; none may be set, too."""
    size = x.shape[axis]
    length = torch.randint(0, max(1, int(share * size)) + 1, (len(x), 1), generator=generator)
    start = (torch.rand((len(x), 1), generator=generator) * (size - length + 1)).long()
    place = torch.arange(size)
    hidden = ((place >= start) & (place < start + length)).to(x.device)
    shape = [len(x), 1, 1, 1]
    shape[axis] = size
    return x.masked_fill(hidden.view(shape), 0.0)


def _jitter(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each channel of each recording stronger or weaker by up to a fifth and off by up to a fifth of a deviation.

    Noise comes on top, its deviation drawn up to a tenth: other people, other straps.
    """
    draws = torch.rand((3, len(x), x.shape[1], 1, 1), generator=generator).to(x.device)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return x * (0.8 + 0.4 * draws[0]) + (0.4 * draws[1] - 0.2) + noise * (0.1 * draws[2])


def _none(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x


def _shift_flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _flip(_shift(x, generator), generator)


AUGMENTATIONS: dict[Augmentation, Augment] = {
    Augmentation.NONE: _none,
    Augmentation.SHIFT: _shift,
    Augmentation.SHIFT_FLIP: _shift_flip,
    Augmentation.TIME_SHIFT: _time_shift,
    Augmentation.SPEC_AUGMENT: _spec_augment,
    Augmentation.JITTER: _jitter,
}


def augmentation(name: str) -> Augment:
    """The batch augmentation of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"task augment = {name!r}: allowed are {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[Augmentation(name)]
