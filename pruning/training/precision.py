"""Whether a network trains in bfloat16; layers that would be slow in it use float32 (``Convolution``)."""

from __future__ import annotations

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster: CUDA, or a CPU with native bfloat16 arithmetic."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
