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
    "_native_multi_head_attention": ("attention (nn.MultiheadAttention)", "use convolutions"),
    "_transformer_encoder_layer_fwd": ("attention (nn.TransformerEncoderLayer)", "use convolutions"),
    "baddbmm": ("a product of two feature maps (attention)", "use convolutions"),
    "bmm": ("a product of two feature maps (attention)", "use convolutions"),
    "matmul": ("a product of two feature maps (attention)", "use convolutions"),
    "einsum": ("a product of feature maps by einsum (attention)", "use convolutions"),
    "lstm": ("LSTM (nn.LSTM)", "use a convolution over time"),
    "gru": ("GRU (nn.GRU)", "use a convolution over time"),
    "rnn_relu": ("RNN (nn.RNN)", "use a convolution over time"),
    "rnn_tanh": ("RNN (nn.RNN)", "use a convolution over time"),
    "conv3d": ("Conv3d (nn.Conv3d)", "use nn.Conv2d"),
    "conv_transpose3d": ("ConvTranspose3d (nn.ConvTranspose3d)", "use nn.ConvTranspose2d"),
    "upsample_bicubic2d": ("bicubic Upsample (nn.Upsample, F.interpolate)", "use mode='bilinear' or 'nearest'"),
    "pixel_shuffle": ("PixelShuffle (nn.PixelShuffle)", "use nn.Upsample"),
    "pow": ("a power (x ** n, torch.pow)", "multiply: x * x"),
    "square": ("a square (torch.square)", "multiply: x * x"),
    "abs": ("an absolute value (abs)", "use F.relu(x) + F.relu(-x)"),
    "stack": ("torch.stack", "use torch.cat(..., 1)"),
    "repeat": ("a tensor repeated (repeat)", "use torch.cat, or nn.Upsample"),
    "fill": ("a part that is overwritten (x[...] = number)", "join the parts by torch.cat(..., 1)"),
    "copy": ("a part that is overwritten (x[...] = y)", "join the parts by torch.cat(..., 1)"),
    "zeros_like": ("a tensor that is filled in by parts (zeros_like)", "join the parts by torch.cat(..., 1)"),
    "new_zeros": ("a tensor that is filled in by parts (new_zeros)", "join the parts by torch.cat(..., 1)"),
}

PRODUCTS = ("bmm", "baddbmm", "matmul", "einsum")
"""Attention, where they multiply what depends on the data with itself."""

FIRST = (
    ("scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd", *PRODUCTS),
    ("lstm", "gru", "rnn_tanh", "rnn_relu"),
    ("layer_norm", "group_norm", "instance_norm", "rms_norm"),
)
"""What decides that a network is none for microcontrollers: named before the views and sizes that lead up to it."""


def reason(name: str) -> tuple[str, str]:
    """Why an operator is refused, and what to write instead."""
    spoken, instead = SPOKEN.get(name.removesuffix("_"), (name.strip("_"), "see docs/reference/operators.md"))
    return f"{spoken} has no int8 kernel in mcusweep", instead
