"""Requantisation in floating point, proved equal to the integer arithmetic at construction.

The output is a monotone step function of the accumulator, so two forms that agree around every step agree everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mcu.int8.fixed_point import rescale

EXACT_FLOAT32 = 1 << 24
"""float32 holds every integer up to here."""


class Requantiser:
    """Accumulators to output values: multiply, round twice, clamp.

    Args:
        multipliers: multiplier and shift of every channel.
        bound: largest magnitude of every channel's accumulators.
        low, high: what outputs are clamped to.

    Attributes:
        sums: type in which the accumulators are exact, float32 or float64.

    With m the multiplier and e the right shift, the two roundings of ``acc * m / 2**e`` equal
    ``trunc(acc * m / 2**e + copysign(1/2 + 2**-(e + 1), acc))`` but for rare ties, which ``_agrees`` looks for.
    """

    def __init__(self, multipliers: Sequence[tuple[int, int]], bound: np.ndarray, low: int, high: int) -> None:
        self._multiplier, self._shift = np.array(multipliers, np.int64).T
        self._low, self._high = low, high
        self._samples = self._borders(np.minimum(bound, (1 << 31) - 1).astype(np.int64))
        scale = self._multiplier.astype(np.float64) * np.exp2(self._shift - 31.0)
        offset = 0.5 + np.exp2(self._shift - 1.0)
        self._dtype: type | None = None
        wanted = self._exact(self._samples)
        for dtype in (np.float32, np.float64):
            self._scale, self._offset = scale.astype(dtype), offset.astype(dtype)
            exact_sums = bound.max(initial=0) < EXACT_FLOAT32 or dtype is np.float64
            if exact_sums and self._agrees(dtype, wanted):
                self._dtype = dtype
                break
        small = bool(bound.max(initial=0) < EXACT_FLOAT32)
        self.sums: torch.dtype = torch.float32 if small else torch.float64
        self._torch_scale = torch.from_numpy(self._scale)[:, None, None]
        self._torch_offset = torch.from_numpy(self._offset)[:, None, None]

    def _exact(self, sums: np.ndarray) -> np.ndarray:
        """TFLM's arithmetic on int64 ``(..., channels)``."""
        return np.clip(rescale(sums, self._multiplier, self._shift), self._low, self._high)

    def _borders(self, bound: np.ndarray) -> np.ndarray:
        """Accumulators around every place where the output steps; int64 ``(samples, channels)``."""
        steps = np.arange(self._low, self._high + 2)[:, None] - 0.5
        scale = self._multiplier * np.exp2(self._shift - 31.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            centres = np.nan_to_num(steps / scale, posinf=0, neginf=0)
        near = np.floor(np.clip(centres, -(2.0**31), 2.0**31)).astype(np.int64)
        samples = np.concatenate([near + delta for delta in range(-3, 5)] + [-bound[None], bound[None]])
        return np.clip(samples, -bound, bound)

    def _agrees(self, dtype: type, wanted: np.ndarray) -> bool:
        sums: np.ndarray = self._samples.astype(dtype)
        scaled = sums * self._scale
        if self._low == 0:
            fast = np.floor(scaled + self._offset)
        else:
            fast = np.trunc(scaled + np.copysign(self._offset, scaled))
        return bool(np.array_equal(np.clip(fast, self._low, self._high), wanted))

    def __call__(self, sums: torch.Tensor) -> torch.Tensor:
        """Requantise NCHW accumulators; may reuse their memory."""
        if self._dtype is None:
            exact = self._exact(sums.permute(0, 2, 3, 1).numpy().astype(np.int64))
            return torch.from_numpy(exact.astype(np.float32)).permute(0, 3, 1, 2)
        scaled = sums.to(self._torch_scale.dtype).mul_(self._torch_scale)
        if self._low == 0:  # negative values end at 0 either way
            scaled.add_(self._torch_offset).floor_()
        else:
            scaled.add_(torch.copysign(self._torch_offset, scaled)).trunc_()
        return scaled.clamp_(self._low, self._high).to(torch.float32)
