"""Which layers train in bfloat16: all that are fast in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

FAST_KERNEL = 3
FAST_SIZE = 3
"""A depthwise convolution in bfloat16 has fast gradients up to this kernel and from this size of map on."""


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 pays: CUDA, or a CPU with native bfloat16 arithmetic."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def spare_slow_layers(module: nn.Module) -> None:
    """Let depthwise convolutions whose bfloat16 gradients are slow on CPUs compute in float32, under autocast, too.

    On torch 2.13's oneDNN the gradients of a depthwise convolution with stride 2, a kernel above 3x3 or a map of two
    pixels take 10 to 80 times as long in bfloat16 as in float32 (96 channels, 28 x 28, stride 2: 149 ms and 26 ms).
    Calling it again changes nothing.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not hasattr(layer, "_autocast_outside"):
            layer.__dict__["_autocast_outside"] = None
            layer.register_forward_pre_hook(_leave)
            layer.register_forward_hook(_return, always_call=True)


def _is_fast(layer: nn.Conv2d, x: torch.Tensor) -> bool:
    return max(layer.stride) == 1 and max(layer.kernel_size) <= FAST_KERNEL and min(x.shape[-2:]) >= FAST_SIZE


def _leave(layer: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
    (x,) = inputs
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or _is_fast(layer, x):
        return None
    layer._autocast_outside = True
    torch.set_autocast_enabled("cpu", False)
    return (x.float(),)


def _return(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    if layer._autocast_outside:
        layer._autocast_outside = None
        torch.set_autocast_enabled("cpu", True)
