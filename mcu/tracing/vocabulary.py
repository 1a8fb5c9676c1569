"""Supported operators as users write them, and what they are lowered to: source of the reference page on operators."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One row of the page.

    Attributes:
        written: as users write it: modules, functions, methods.
        becomes: operators of the exported model.
        rules: names of the ATen operators, as ``RULES`` has them.
    """

    written: str
    becomes: str
    rules: tuple[str, ...]


_FREE = "nothing"
VOCABULARY = (
    Word("`nn.Conv1d`, `nn.Conv2d`, `F.conv2d`; any window and zero padding; in groups; depthwise",
         "CONV_2D or DEPTHWISE_CONV_2D, with a PAD where padding is not TensorFlow's SAME", ("conv1d", "conv2d")),
    Word("`nn.ConvTranspose1d`, `nn.ConvTranspose2d`, `F.conv_transpose2d`; any window, stride and padding",
         "TRANSPOSE_CONV, with a STRIDED_SLICE where padding is not TensorFlow's SAME",
         ("conv_transpose1d", "conv_transpose2d")),
    Word("`nn.Linear` on `(N, features)`, a flattened map, or a tensor with its channels last", "CONV_2D", ("linear",)),
    Word("`nn.BatchNorm1d`, `nn.BatchNorm2d` and subclasses, with running statistics",
         "folded into the convolution before it, else DEPTHWISE_CONV_2D", ("batch_norm",)),
    Word("`nn.ReLU`, `nn.ReLU6`, `nn.Threshold(0, 0)`", "fused into the convolution or sum before it, else RELU",
         ("relu", "relu6", "threshold")),
    Word("`nn.Hardtanh`, `clamp`, with any bounds",
         "fused into the convolution or sum before it, else RELU or, below zero, LEAKY_RELU; DEPTHWISE_CONV_2D "
         "where zero is not between the bounds", ("clamp", "clip", "clamp_min", "clamp_max", "hardtanh")),
    Word("`nn.Sigmoid`, `torch.sigmoid`", "LOGISTIC", ("sigmoid",)),
    Word("`nn.Tanh`, `torch.tanh`", "TANH", ("tanh",)),
    Word("`nn.SiLU`, `F.silu`", "LOGISTIC and MUL", ("silu",)),
    Word("`nn.Hardswish`, `F.hardswish`", "HARD_SWISH", ("hardswish",)),
    Word("`nn.Hardsigmoid`, `F.hardsigmoid`", "nothing, and DEPTHWISE_CONV_2D for the division by 6", ("hardsigmoid",)),
    Word("`nn.LeakyReLU`, `F.leaky_relu`", "LEAKY_RELU", ("leaky_relu",)),
    Word("`nn.PReLU`, `F.prelu`, of one slope or one for each channel", "PRELU", ("prelu",)),
    Word("`nn.ELU`, `F.elu` of alpha 1; `nn.CELU`, `F.celu`", "ELU, and DEPTHWISE_CONV_2D for another alpha",
         ("elu", "celu")),
    Word("`x + y`, `x += y`, `torch.add`; of one row or column with a map, too",
         "ADD, with RESIZE_NEAREST_NEIGHBOR where rows or columns are repeated", ("add",)),
    Word("`x * y` of equal shapes, with one row or column, or one value for each channel (squeeze-and-excitation)",
         "MUL", ("mul", "multiply")),
    Word("`+`, `-`, `*`, `/` with a number, or a parameter or buffer with one value for each channel",
         "folded into the convolution before it, else DEPTHWISE_CONV_2D",
         ("sub", "subtract", "rsub", "div", "divide", "true_divide", "neg", "negative")),
    Word("`nn.MaxPool1d`, `nn.MaxPool2d`, `F.max_pool2d`; padding, `ceil_mode`",
         "MAX_POOL_2D, with a PAD or, of what may be below zero, PADV2 where padding is not SAME",
         ("max_pool1d", "max_pool2d", "max_pool1d_with_indices", "max_pool2d_with_indices")),
    Word("`nn.AvgPool1d`, `nn.AvgPool2d`, `F.avg_pool2d`", "AVERAGE_POOL_2D, with a PAD where zeros count in the mean",
         ("avg_pool1d", "avg_pool2d")),
    Word("adaptive pools to 1, to a divisor of the map, or with windows of one size", "AVERAGE_POOL_2D or MAX_POOL_2D",
         ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")),
    Word("`mean`, `sum` and `amax` over height, width or both", "AVERAGE_POOL_2D or MAX_POOL_2D",
         ("mean", "sum", "amax")),
    Word("`nn.ZeroPad2d`, `nn.ConstantPad2d`, 1-D ones, `F.pad`: constant padding of height and width",
         "zeros are folded into the next convolution, else PAD; PADV2 for another constant",
         ("pad", "constant_pad_nd")),
    Word("`nn.Upsample`, `F.interpolate`: nearest, by whole factors; adaptive pools of 1 or 2 rows or columns to more",
         "RESIZE_NEAREST_NEIGHBOR", ("upsample_nearest1d", "upsample_nearest2d")),
    Word("`nn.Upsample`, `F.interpolate`: linear, bilinear, to any size, with or without `align_corners`",
         "RESIZE_BILINEAR",
         ("upsample_linear1d", "upsample_bilinear2d")),
    Word("`torch.cat` along the channels", "CONCATENATION", ("cat", "concat", "concatenate")),
    Word("`flatten`, `view`, `reshape`, `squeeze`, `unsqueeze`, `permute`, `transpose` that move no value", _FREE,
         ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view", "view_as", "reshape_as",
          "permute", "transpose", "swapaxes", "swapdims", "mT", "movedim", "expand", "expand_as")),
    Word("`chunk`, `split` in equal or unequal parts, `x[:, :k]`, `narrow`, `x[:, [2, 0, 1]]`, `flip` of channels",
         "GATHER; nothing where the convolution behind it can take the channels in another order",
         ("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split", "narrow", "select",
          "slice", "unbind", "index", "index_select", "flip")),
    Word("`x[..., ::2]`, `x[:, :, 0]` and the like of rows and columns", "STRIDED_SLICE", ()),
    Word("`nn.ChannelShuffle`, or `view`, `transpose`, `reshape`",
         "nothing before a 1x1 or other convolution without groups, `cat`, `chunk`; else GATHER",
         ("channel_shuffle", "native_channel_shuffle")),
    Word("`nn.PixelUnshuffle`, `F.pixel_unshuffle`", "STRIDED_SLICE and CONCATENATION", ("pixel_unshuffle",)),
    Word("`nn.GLU`, `F.glu` over the channels", "GATHER, LOGISTIC and MUL", ("glu",)),
    Word("`nn.Dropout`, `nn.Dropout2d`, `F.dropout`: on in training, whatever `training=` says", _FREE,
         ("dropout", "feature_dropout", "alpha_dropout")),
    Word("`softmax`, `log_softmax` over the classes at the end: left out, as it keeps the order of the logits", _FREE,
         ("softmax", "log_softmax")),
    Word("`contiguous`, `clone`, `detach`, `torch.positive`; `float`, `to`, `type_as` where they change nothing", _FREE,
         ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "positive", "to", "_to_copy", "type_as",
          "_assert_tensor_metadata")),
)  # fmt: skip
