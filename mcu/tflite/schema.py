"""Numbers of the public TensorFlow Lite schema (schema.fbs, version 3) that the writer and the reader share.

With them a .tflite file needs no generated schema module, so export works where no interpreter is installed.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from mcu.graph.kinds import Activation, Kind

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
OFFLINE_PLAN_NAME = "OfflineMemoryAllocation"
METADATA_NAME = "mcusweep"
SIGNATURE_KEY = "serving_default"

INT32, INT8 = 2, 9
TYPE_NAMES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "text", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 16: "uint16", 17: "int4",
}  # fmt: skip
"""Element types of tensors."""
SAME, VALID = 0, 1

KIND_CODE = {
    Kind.ADD: 0,
    Kind.AVG_POOL: 1,
    Kind.CONCAT: 2,
    Kind.CONV: 3,
    Kind.DEPTHWISE: 4,
    Kind.DENSE: 9,
    Kind.MAX_POOL: 17,
    Kind.RELU: 19,
    Kind.RESHAPE: 22,
    Kind.SOFTMAX: 25,
    Kind.PAD: 34,
    Kind.PADV2: 60,
    Kind.MEAN: 40,
    Kind.LOGISTIC: 14,
    Kind.MUL: 18,
    Kind.TANH: 28,
    Kind.RESIZE: 97,
    Kind.LEAKY_RELU: 98,
    Kind.ELU: 111,
    Kind.HARD_SWISH: 117,
    Kind.SLICE: 45,
    Kind.PRELU: 54,
    Kind.TRANSPOSE_CONV: 67,
    Kind.BILINEAR: 23,
    Kind.GATHER: 36,
}
"""Builtin operator code of each kind."""

KIND_VERSION = {
    Kind.ADD: 2,
    Kind.AVG_POOL: 2,
    Kind.CONCAT: 2,
    Kind.CONV: 3,
    Kind.DEPTHWISE: 3,
    Kind.DENSE: 4,
    Kind.MAX_POOL: 2,
    Kind.RELU: 2,
    Kind.RESHAPE: 1,
    Kind.SOFTMAX: 2,
    Kind.PAD: 2,
    Kind.PADV2: 2,
    Kind.MEAN: 2,
    Kind.LOGISTIC: 2,
    Kind.MUL: 2,
    Kind.TANH: 2,
    Kind.RESIZE: 2,
    Kind.LEAKY_RELU: 2,
    Kind.ELU: 1,
    Kind.HARD_SWISH: 1,
    Kind.SLICE: 2,
    Kind.PRELU: 1,
    Kind.TRANSPOSE_CONV: 4,
    Kind.BILINEAR: 3,
    Kind.GATHER: 2,
}
"""Operator version that first accepts int8 tensors (per-channel weights for convolutions, activations of
TRANSPOSE_CONV)."""

KIND_OPTIONS = {
    Kind.CONV: 1,
    Kind.DEPTHWISE: 2,
    Kind.AVG_POOL: 5,
    Kind.MAX_POOL: 5,
    Kind.DENSE: 8,
    Kind.SOFTMAX: 9,
    Kind.CONCAT: 10,
    Kind.ADD: 11,
    Kind.RESHAPE: 17,
    Kind.PAD: 22,
    Kind.MEAN: 27,
    Kind.MUL: 21,
    Kind.LEAKY_RELU: 75,
    Kind.SLICE: 32,
    Kind.TRANSPOSE_CONV: 49,
    Kind.BILINEAR: 15,
    Kind.GATHER: 23,
}
"""Member of the BuiltinOptions union of each kind."""

ACTIVATION_CODE = {Activation.NONE: 0, Activation.RELU: 1, Activation.RELU6: 3}

OPERATOR_NAMES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE",
    6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP", 8: "FLOOR", 9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION",
    13: "LOCAL_RESPONSE_NORMALIZATION", 14: "LOGISTIC", 16: "LSTM", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU",
    20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 24: "RNN", 25: "SOFTMAX",
    26: "SPACE_TO_DEPTH", 27: "SVDF", 28: "TANH", 32: "CUSTOM", 34: "PAD", 36: "GATHER", 39: "TRANSPOSE", 40: "MEAN",
    41: "SUB", 42: "DIV", 43: "SQUEEZE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE", 47: "EXP",
    48: "TOPK_V2", 49: "SPLIT", 50: "LOG_SOFTMAX", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 56: "ARG_MAX",
    57: "MINIMUM", 60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 70: "EXPAND_DIMS", 74: "SUM",
    76: "RSQRT", 77: "SHAPE", 81: "REDUCE_PROD", 82: "REDUCE_MAX", 83: "PACK", 88: "UNPACK",
    97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU",
    101: "ABS", 102: "SPLIT_V", 111: "ELU", 114: "QUANTIZE", 117: "HARD_SWISH", 126: "BATCH_MATMUL", 150: "GELU",
}  # fmt: skip
"""Names of operators a foreign file may hold, so that one we cannot read is named and not numbered."""


def float_bits(value: float) -> int:
    """A float field as the 32-bit number it is stored as."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


class ModelSlot(IntEnum):
    """Fields of table Model."""

    VERSION = 0
    OPERATOR_CODES = 1
    SUBGRAPHS = 2
    BUFFERS = 4
    METADATA = 6
    SIGNATURES = 7


class SignatureSlot(IntEnum):
    """Fields of table SignatureDef, whose inputs and outputs are pairs of name (0) and tensor (1)."""

    INPUTS = 0
    OUTPUTS = 1
    KEY = 2


class OperatorCodeSlot(IntEnum):
    """Fields of table OperatorCode."""

    DEPRECATED_CODE = 0
    CUSTOM_CODE = 1
    VERSION = 2
    CODE = 3


class SubGraphSlot(IntEnum):
    """Fields of table SubGraph."""

    TENSORS = 0
    INPUTS = 1
    OUTPUTS = 2
    OPERATORS = 3


class TensorSlot(IntEnum):
    """Fields of table Tensor."""

    SHAPE = 0
    TYPE = 1
    BUFFER = 2
    NAME = 3
    QUANTIZATION = 4


class QuantizationSlot(IntEnum):
    """Fields of table QuantizationParameters."""

    SCALE = 2
    ZERO_POINT = 3
    DIMENSION = 6


class OperatorSlot(IntEnum):
    """Fields of table Operator."""

    CODE_INDEX = 0
    INPUTS = 1
    OUTPUTS = 2
    OPTIONS_TYPE = 3
    OPTIONS = 4


class ConvSlot(IntEnum):
    """Fields of table Conv2DOptions."""

    PADDING = 0
    STRIDE_W = 1
    STRIDE_H = 2
    ACTIVATION = 3
    DILATION_W = 4
    DILATION_H = 5


class DepthwiseSlot(IntEnum):
    """Fields of table DepthwiseConv2DOptions."""

    PADDING = 0
    STRIDE_W = 1
    STRIDE_H = 2
    MULTIPLIER = 3
    ACTIVATION = 4
    DILATION_W = 5
    DILATION_H = 6


class PoolSlot(IntEnum):
    """Fields of table Pool2DOptions."""

    PADDING = 0
    STRIDE_W = 1
    STRIDE_H = 2
    FILTER_W = 3
    FILTER_H = 4
    ACTIVATION = 5


class ResizeSlot(IntEnum):
    """Fields of table ResizeBilinearOptions."""

    CORNERS = 2
    CENTRES = 3
