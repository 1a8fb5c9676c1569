import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.tflite.reader import read_tflite
from mcu.tflite.writer import write_tflite


def small_model() -> Int8Model:
    weights = np.arange(-9, 9, dtype=np.int8).reshape(2, 3, 3, 1)
    conv = QOp(Kind.CONV, (0,), 1, weights, np.array([0.01, 0.02], np.float32), np.array([5, -7], np.int32), (3, 3))
    pool = QOp(Kind.AVG_POOL, (1,), 2, kernel=(4, 4))
    tensors = (QTensor((1, 6, 6, 1), 0.5, 3), QTensor((1, 4, 4, 2), 0.25, -4), QTensor((1, 1, 1, 2), 0.25, -4))
    return Int8Model(tensors, (conv, pool), 0, 2, {"labels": "a,b"})


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
    for code, name, advice in ((98, "LEAKY_RELU", "allowed are"), (114, "QUANTIZE", "convert with int8 input")):
        message = refuse(edited(schema, lambda model, code=code: set_code(model, code)))
        assert f"operator {name} (output 'tensor 1')" in message
        assert advice in message


def set_code(model, code):
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = code


def edited(schema, change) -> bytes:
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(SMALL, 0))
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
