"""The operators a network is made of, and the activations fused into them."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Operators of an int8 model, one for one with TensorFlow Lite's builtin operators."""

    CONV = "conv"
    DEPTHWISE = "depthwise"
    TRANSPOSE_CONV = "transpose_conv"
    DENSE = "dense"  # FULLY_CONNECTED; read from foreign files, never written by us (1x1 CONV_2D instead)
    ADD = "add"
    CONCAT = "concat"
    MAX_POOL = "max_pool"
    AVG_POOL = "avg_pool"
    MEAN = "mean"  # read from foreign files; ours use AVG_POOL
    PAD = "pad"
    PADV2 = "padv2"  # with another value than zero
    RESHAPE = "reshape"
    RELU = "relu"
    SOFTMAX = "softmax"
    LOGISTIC = "logistic"
    TANH = "tanh"
    HARD_SWISH = "hard_swish"
    LEAKY_RELU = "leaky_relu"
    PRELU = "prelu"  # a slope below zero for each channel
    ELU = "elu"
    MUL = "mul"
    RESIZE = "resize"  # RESIZE_NEAREST_NEIGHBOR by whole factors
    BILINEAR = "bilinear"  # RESIZE_BILINEAR to any size
    SLICE = "slice"  # STRIDED_SLICE of rows and columns
    GATHER = "gather"  # some of the channels, in an order of their own


class Sampling(StrEnum):
    """Where the values of a resized map lie on the map that is read."""

    CENTRES = "centres"  # pixels are areas: torch's align_corners=False, TensorFlow's half_pixel_centers
    CORNERS = "corners"  # the outermost values of both lie on each other: align_corners
    ORIGIN = "origin"  # the first values do: neither, in files from other tools


class Activation(StrEnum):
    """Activation fused into an operator."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
