import contextlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind
from mcu.graph.ports import Port
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.tflite.reader import read_arena_plan, read_tflite
from mcu.tflite.writer import write_tflite


def small_model() -> Int8Model:
    weights = np.arange(-9, 9, dtype=np.int8).reshape(2, 3, 3, 1)
    conv = QOp(Kind.CONV, (0,), 1, weights, np.array([0.01, 0.02], np.float32), np.array([5, -7], np.int32), (3, 3))
    pool = QOp(Kind.AVG_POOL, (1,), 2, kernel=(4, 4))
    tensors = (QTensor((1, 6, 6, 1), 0.5, 3), QTensor((1, 4, 4, 2), 0.25, -4), QTensor((1, 1, 1, 2), 0.25, -4))
    return Int8Model(tensors, (conv, pool), (Port(0),), (Port(2),), {"labels": "a,b"})


SMALL = write_tflite(small_model())


def test_every_field_survives_the_file():
    model, read = small_model(), read_tflite(SMALL)
    assert read.tensors == model.tensors
    assert (read.input, read.output, read.metadata) == (0, 2, model.metadata)
    for ours, theirs in zip(model.ops, read.ops, strict=True):
        assert (ours.kind, ours.inputs, ours.output) == (theirs.kind, theirs.inputs, theirs.output)
        assert (ours.kernel, ours.stride, ours.padding) == (theirs.kernel, theirs.stride, theirs.padding)
    assert np.array_equal(read.ops[0].weights, model.ops[0].weights)
    assert np.array_equal(read.ops[0].weight_scales, model.ops[0].weight_scales)
    assert np.array_equal(read.ops[0].bias, model.ops[0].bias)


def refuse(data: bytes) -> str:
    with pytest.raises(InputError) as error:
        read_tflite(data, "mine.tflite")
    message = str(error.value)
    with pytest.raises(InputError, match=re.escape(message)):
        read_arena_plan(data, "mine.tflite")
    assert message.startswith("mine.tflite: ")
    assert "\n" not in message
    return message


@given(st.binary(max_size=400))
def test_random_bytes_are_one_clear_error(data):
    assert refuse(data)
    assert refuse(b"\x10\0\0\0TFL3" + data)


@given(st.integers(0, len(SMALL) - 1))
@settings(max_examples=200)
def test_a_truncated_file_is_one_clear_error(length):
    assert refuse(SMALL[:length])


@given(st.lists(st.tuples(st.integers(8, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=600, deadline=None)
def test_flipped_bytes_give_a_model_or_one_clear_error(flips):
    data = bytearray(SMALL)
    for place, value in flips:
        data[place] = value
    with contextlib.suppress(InputError):
        assert read_tflite(bytes(data), "mine.tflite").ops


def test_an_unknown_operator_is_named_with_the_layer_and_what_to_do():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for code, name, advice in ((150, "GELU", "allowed are"), (6, "DEQUANTIZE", "convert with int8 output")):
        message = refuse(edited(schema, lambda model, code=code: set_code(model, code)))
        assert f"operator {name} (output 'tensor 1')" in message
        assert advice in message


def set_code(model, code):
    model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = code, min(code, 127)


def edited(schema, change, data: bytes = SMALL) -> bytes:
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    change(model)
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_float_model_and_a_batched_one_are_refused():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def make_float(model):
        model.subgraphs[0].tensors[0].type = 0

    def make_batched(model):
        model.subgraphs[0].tensors[0].shape = np.array([2, 6, 6, 1], np.int32)

    assert "allowed is int8" in refuse(edited(schema, make_float))
    assert "allowed is batch 1" in refuse(edited(schema, make_batched))


def test_a_file_that_another_library_packed_reads_the_same():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    repacked = edited(schema, lambda model: None)
    assert repacked != SMALL
    assert write_tflite(read_tflite(repacked)) == SMALL


def test_a_missing_bias_and_per_tensor_weights_are_read():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def strip(model):
        operator = model.subgraphs[0].operators[0]
        operator.inputs = np.array([*operator.inputs[:2], -1], np.int32)
        quantisation = model.subgraphs[0].tensors[operator.inputs[1]].quantization
        quantisation.scale, quantisation.zeroPoint = np.array([0.5], np.float32), np.array([0], np.int64)

    op = read_tflite(edited(schema, strip)).ops[0]
    assert op.bias is None
    assert op.weight_scales.tolist() == [0.5, 0.5]


def refused(model: Int8Model, change=lambda model: None) -> str:
    """What is said of a file whose content was changed."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    return refuse(edited(schema, change, write_tflite(model)))


def chain(*ops: QOp, shapes: tuple[tuple[int, ...], ...]) -> Int8Model:
    return Int8Model(tuple(QTensor(shape, 0.5, 3) for shape in shapes), ops, (Port(0),), (Port(len(shapes) - 1),))


def convolution(kind: Kind, shape: tuple[int, ...], channels: int) -> QOp:
    return QOp(kind, (0,), 1, np.ones(shape, np.int8), np.full(channels, 0.01, np.float32), None, shape[1:3])


MAPS = (1, 4, 4, 4)


def test_groups_that_do_not_divide_the_outputs_are_named():
    model = chain(convolution(Kind.CONV, (7, 1, 1, 2), 7), shapes=(MAPS, (1, 4, 4, 7)))
    assert "a convolution in 2 groups, which do not divide its 7 outputs" in refused(model)


def test_a_depth_multiplier_that_lies_is_refused():
    def lie(model):
        model.subgraphs[0].operators[0].builtinOptions.depthMultiplier = 0

    model = chain(convolution(Kind.DEPTHWISE, (1, 1, 1, 8), 8), shapes=(MAPS, (1, 4, 4, 8)))
    assert read_tflite(write_tflite(model)).ops
    assert "depth_multiplier 0, but weights that make 8 channels of 4" in refused(model, lie)


def test_another_beta_is_refused_and_named():
    def halve(model):
        model.subgraphs[0].operators[0].builtinOptions.beta = 0.5

    tensors = (QTensor((1, 4), 0.5, 3), QTensor((1, 4), 1 / 256, -128))
    model = Int8Model(tensors, (QOp(Kind.SOFTMAX, (0,), 1),), (Port(0),), (Port(1),))
    assert read_tflite(write_tflite(model)).ops
    assert "SOFTMAX with beta 0.5; allowed is 1" in refused(model, halve)
    other = Int8Model((tensors[0], QTensor((1, 4), 1 / 128, -128)), model.ops, (Port(0),), (Port(1),))
    assert "SOFTMAX with scale 0.0078125, zero point -128; allowed are 1/256 and -128" in refuse(write_tflite(other))


@pytest.mark.parametrize(
    ("op", "target"),
    [
        (QOp(Kind.RESHAPE, (0,), 1), QTensor((1, 64), 0.5, 9)),
        (QOp(Kind.PAD, (0,), 1, padding=((1, 1), (0, 0))), QTensor((1, 6, 4, 4), 0.5, 9)),
        (QOp(Kind.MAX_POOL, (0,), 1, kernel=(2, 2), stride=(2, 2)), QTensor((1, 2, 2, 4), 0.4, 3)),
        (QOp(Kind.AVG_POOL, (0,), 1, kernel=(2, 2), stride=(2, 2)), QTensor((1, 2, 2, 4), 0.5, 9)),
    ],
    ids=lambda value: str(value.kind) if isinstance(value, QOp) else "",
)
def test_an_operator_that_copies_codes_cannot_requantise(op, target):
    message = refuse(write_tflite(Int8Model((QTensor(MAPS, 0.5, 3), target), (op,), (Port(0),), (Port(1),))))
    assert "copies codes of scale 0.5, zero point 3 to scale" in message
    assert "unequal quantisation" in message


def test_a_constant_operand_is_named():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def fix(model):
        buffer = schema.BufferT()
        buffer.data = np.zeros(64, np.uint8)
        model.buffers.append(buffer)
        model.subgraphs[0].tensors[1].buffer = len(model.buffers) - 1
        model.subgraphs[0].tensors[1].name = "offsets"
        model.subgraphs[0].operators = model.subgraphs[0].operators[1:]

    relu = QOp(Kind.RELU, (0,), 1, activation=Activation.RELU)
    model = chain(relu, QOp(Kind.ADD, (0, 1), 2), shapes=(MAPS,) * 3)
    assert "takes the constant 'offsets': allowed are tensors that the model computes" in refused(model, fix)

    def forget(model):
        model.subgraphs[0].operators = model.subgraphs[0].operators[1:]

    assert "reads tensor 'tensor 1' before an operator writes it" in refused(model, forget)


def test_a_requantisation_inside_is_not_taken_for_the_input():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    message = refuse(edited(schema, lambda model: set_code(model, 114)))
    assert "rescales int8 to int8" in message

    def from_float(model):
        set_code(model, 114)
        model.subgraphs[0].tensors[0].type = 0
        model.subgraphs[0].inputs = np.array([1], np.int32)

    assert "convert with int8 input" in refuse(edited(schema, from_float))


def test_options_of_another_operator_are_not_read():
    def swap(model):
        model.subgraphs[0].operators[1].builtinOptionsType = 4

    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    assert "no options" in refuse(edited(schema, swap))
