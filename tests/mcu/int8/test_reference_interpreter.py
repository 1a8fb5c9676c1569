import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind
from mcu.graph.ports import Port
from mcu.int8.fixed_point import high_multiply, quantise_multiplier, rescale, rounding_shift
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.int8.reference_interpreter import ReferenceInterpreter, dequantise, quantise_input
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite

needs_interpreter = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")


@needs_interpreter
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_outputs_equal_those_of_the_interpreter(seed, random_model, codes):
    model = random_model(seed)
    x = codes(model, 6, seed)
    assert np.array_equal(ReferenceInterpreter(model).run(x), tflm.run(write_tflite(model), x))


@needs_interpreter
@pytest.mark.parametrize("seed", range(48))
def test_outputs_of_foreign_operators_equal_those_of_the_interpreter(seed, foreign_model, codes):
    model = foreign_model(seed)
    x = codes(model, 12, seed)
    assert np.array_equal(ReferenceInterpreter(model).run(x), tflm.run(write_tflite(model), x))


def convolution(weights, scales, bias, activation=Activation.NONE, zero=-3, out_zero=5, out_scale=0.02, size=6):
    channels = weights.shape[0]
    tensors = (
        QTensor((1, size, size, weights.shape[3]), 0.02, zero),
        QTensor((1, size - weights.shape[1] + 1, size - weights.shape[2] + 1, channels), out_scale, out_zero),
    )
    op = QOp(Kind.CONV, (0,), 1, weights, scales, bias, weights.shape[1:3], activation=activation)
    return Int8Model(tensors, (op,), (Port(0),), (Port(1),))


@needs_interpreter
@pytest.mark.parametrize("scale", [1e-7, 3e-5, 1e-3, 0.02, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("activation", list(Activation))
def test_any_effective_scale_is_exact(scale, activation, codes):
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, (9, 3, 3, 5), dtype=np.int8)
    bias = rng.integers(-(1 << 20), 1 << 20, 9).astype(np.int32)
    out_zero = 5 if activation is Activation.NONE else -128
    model = convolution(weights, np.full(9, scale, np.float32), bias, activation, out_zero=out_zero)
    x = codes(model, 16)
    assert np.array_equal(ReferenceInterpreter(model).run(x), tflm.run(write_tflite(model), x))


@needs_interpreter
@pytest.mark.parametrize(("size", "channels"), [(6, 48), (6, 1001), (43, 1)], ids=["halved", "in parts", "indivisible"])
def test_sums_past_24_bits_are_exact(size, channels):
    """The bias takes away all but a few units of a sum of millions, and every unit is half a code."""
    rng = np.random.default_rng(2)
    weights = rng.integers(100, 128, (4, size, size, channels), dtype=np.int8)
    first = rng.integers(60, 127, (size, size, channels)).astype(np.int8)
    bias = -np.tensordot(weights.astype(np.int64), first.astype(np.int64) + 3, 3)
    assert np.abs(bias).min() > 1 << 24
    model = convolution(weights, np.full(4, 0.5, np.float32), bias.astype(np.int32), size=size)
    x = np.repeat(first[None], 24, 0)
    changed = rng.integers(0, first.size, len(x))
    x.reshape(len(x), -1)[np.arange(len(x)), changed] += 1
    expected = tflm.run(write_tflite(model), x)
    assert len(np.unique(expected)) > 8
    assert np.array_equal(ReferenceInterpreter(model).run(x), expected)


def test_batches_do_not_change_results(random_model, codes):
    model = random_model(3)
    reference = ReferenceInterpreter(model)
    x = codes(model, 70)
    whole = reference.run(x)
    assert np.array_equal(np.concatenate([reference.run(x[i : i + 1]) for i in range(len(x))]), whole)
    assert np.array_equal(reference.predict(x), whole.reshape(len(x), -1).argmax(1))


def test_wrong_inputs_are_refused(random_model, codes):
    reference = ReferenceInterpreter(random_model(0))
    x = codes(random_model(0), 2)
    for bad in (x.astype(np.uint8), x[:, :-1]):
        with pytest.raises(InputError, match="int8 model: input"):
            reference.run(bad)


def test_quantised_inputs_come_back_within_half_a_step():
    tensor = QTensor((1, 4), 0.1, -20)
    x = np.linspace(-10, 14, 97)
    assert np.abs(dequantise(quantise_input(x, tensor), tensor) - x).max() <= 0.05 + 1e-6
    assert quantise_input(np.array([1e9, -1e9]), tensor).tolist() == [127, -128]


@given(st.floats(1e-8, 1e4))
def test_a_multiplier_is_its_real_number_to_31_bits(real):
    multiplier, shift = quantise_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2.0**-31)


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(1 << 30, (1 << 31) - 1), st.integers(0, 31))
def test_roundings_follow_their_definitions(value, multiplier, exponent):
    from fractions import Fraction

    product = Fraction(value * multiplier, 1 << 31)
    assert int(high_multiply(np.int64(value), multiplier)) == (product + Fraction(1, 2)).__floor__()
    quotient = Fraction(abs(value), 1 << exponent)
    expected = (quotient + Fraction(1, 2)).__floor__() * (1 if value >= 0 else -1)
    assert int(rounding_shift(np.int64(value), exponent)) == expected
    assert int(rescale(np.int64(value), multiplier, -exponent)) == int(
        rounding_shift(high_multiply(np.int64(value), multiplier), exponent)
    )


@needs_interpreter
def test_per_tensor_dense_weights_follow_the_interpreter(foreign_model, codes):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    from mcu.tflite.reader import read_tflite

    for seed in range(0, 48, 4):
        model = foreign_model(seed)
        packed = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(write_tflite(model), 0))
        dense = [op for op in packed.subgraphs[0].operators if len(op.inputs) > 1]
        for operator, op in zip(packed.subgraphs[0].operators, model.ops, strict=True):
            if op.kind is Kind.DENSE:
                quantisation = packed.subgraphs[0].tensors[operator.inputs[1]].quantization
                quantisation.scale = quantisation.scale[:1]
                quantisation.zeroPoint = quantisation.zeroPoint[:1]
        assert dense
        builder = flatbuffers.Builder(4096)
        builder.Finish(packed.Pack(builder), b"TFL3")
        data = bytes(builder.Output())
        x = codes(model, 12, seed)
        assert np.array_equal(ReferenceInterpreter(read_tflite(data)).run(x), tflm.run(data, x))
