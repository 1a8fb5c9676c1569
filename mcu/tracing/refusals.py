"""Operators that are refused: the reason, in users' terms, and what to write instead."""

from __future__ import annotations

_RECTIFIED = "use nn.ReLU, nn.ReLU6, nn.Hardswish or nn.SiLU"
_NORM = "use nn.BatchNorm2d"
SPOKEN = {
    "gelu": (
        "GELU (nn.GELU, F.gelu)",
        "use nn.SiLU or nn.Hardswish, or x * torch.sigmoid(1.702 * x), which is next to it",
    ),
    "mish": ("Mish (nn.Mish, F.mish)", "use nn.SiLU or nn.Hardswish"),
    "selu": ("SELU (nn.SELU, F.selu)", "use nn.ELU"),
    "softplus": ("Softplus (nn.Softplus, F.softplus)", _RECTIFIED),
    "rrelu": ("RReLU (nn.RReLU, F.rrelu)", _RECTIFIED),
    "layer_norm": ("LayerNorm (nn.LayerNorm, F.layer_norm)", _NORM),
    "group_norm": ("GroupNorm (nn.GroupNorm, F.group_norm)", _NORM),
    "instance_norm": ("InstanceNorm (nn.InstanceNorm2d, F.instance_norm)", _NORM),
    "rms_norm": ("RMSNorm (nn.RMSNorm, F.rms_norm)", _NORM),
    "scaled_dot_product_attention": ("attention", "use convolutions"),
    "bmm": ("a product of two feature maps (attention)", "use convolutions"),
    "matmul": ("a product of two feature maps (attention)", "use convolutions"),
    "einsum": ("einsum", "use convolutions and dense layers"),
    "lstm": ("LSTM (nn.LSTM)", "use a convolution over time"),
    "gru": ("GRU (nn.GRU)", "use a convolution over time"),
    "rnn_tanh": ("RNN (nn.RNN)", "use a convolution over time"),
    "conv3d": ("Conv3d (nn.Conv3d)", "use nn.Conv2d"),
    "conv_transpose3d": ("ConvTranspose3d (nn.ConvTranspose3d)", "use nn.ConvTranspose2d"),
    "upsample_bicubic2d": ("bicubic Upsample (nn.Upsample, F.interpolate)", "use mode='bilinear' or 'nearest'"),
    "pixel_shuffle": ("PixelShuffle", "leave it out"),
}


def reason(name: str) -> tuple[str, str]:
    """Why an operator is refused, and what to write instead."""
    spoken, instead = SPOKEN.get(name.removesuffix("_"), (name.strip("_"), "see docs/reference/operators.md"))
    return f"{spoken} has no int8 kernel in mcusweep", instead
