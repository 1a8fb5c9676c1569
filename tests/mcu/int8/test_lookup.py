"""Activations that are tables of codes, and products: bit for bit what TensorFlow Lite Micro computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.graph.kinds import Kind
from mcu.graph.ports import Port
from mcu.int8.lookup import FIXED_RANGES, TABLES, table_of
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from mcu.tflite.reader import read_tflite
from mcu.tflite.writer import write_tflite

ALL = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
FIXED = {Kind.LOGISTIC: (1 / 256, -128), Kind.TANH: (1 / 128, 0)}
needs_tflm = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
codes = st.integers(-128, 127)
scales = st.floats(1e-4, 0.4).map(lambda value: float(np.float32(value)))


def one_operator(kind, source, target, alpha=0.0):
    shape = (1, 16, 16, 1)
    tensors = (QTensor(shape, *source), QTensor(shape, *target))
    return Int8Model(tensors, (QOp(kind, (0,), 1, alpha=alpha),), (Port(0),), (Port(1),))


@needs_tflm
@pytest.mark.parametrize("kind", TABLES)
@given(scale=scales, zero=codes, ratio=st.floats(0.2, 1.2), out_zero=codes, alpha=st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_a_table_is_what_the_kernel_gives_for_every_code(kind, scale, zero, ratio, out_zero, alpha):
    target = FIXED.get(kind, (float(np.float32(scale * ratio)), out_zero))
    model = one_operator(kind, (scale, zero), target, float(np.float32(alpha)) if kind is Kind.LEAKY_RELU else 0.0)
    data = write_tflite(model)
    assert np.array_equal(ReferenceInterpreter(read_tflite(data)).run(ALL), tflm.run(data, ALL))


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        (Kind.LOGISTIC, lambda x: 1 / (1 + np.exp(-x))),
        (Kind.TANH, np.tanh),
        (Kind.HARD_SWISH, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        (Kind.LEAKY_RELU, lambda x: np.where(x < 0, 0.1 * x, x)),
        (Kind.ELU, lambda x: np.where(x < 0, np.expm1(x), x)),
    ],
)
def test_a_table_is_the_function_to_a_code_and_a_half(kind, function):
    source, target = QTensor((1,), 0.05, 10), QTensor((1,), *FIXED.get(kind, (0.04, -90)))
    real = function(0.05 * (np.arange(-128, 128) - 10))
    wanted = np.clip(real / target.scale + target.zero_point, -128, 127)
    assert np.abs(table_of(kind, source, target, 0.1) - wanted).max() <= 1.5


def test_fixed_ranges_are_the_scales_of_the_kernels():
    for kind, (low, high) in FIXED_RANGES.items():
        scale, zero = FIXED[kind]
        assert (scale * (-128 - zero), scale * (127 - zero)) == (low, high)


@needs_tflm
@given(
    st.integers(1, 8), st.booleans(), scales, scales, codes, codes, st.floats(20, 250), st.integers(0, 2**31)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_product_is_what_the_kernel_gives(channels, whole, scale, factor, zero, out_zero, ratio, seed):
    shape = (1, 6, 5, channels)
    other = shape if whole else (1, 1, 1, channels)
    first = QTensor(shape, scale, zero)
    pool = QOp(Kind.MAX_POOL, (0,), 1) if whole else QOp(Kind.AVG_POOL, (0,), 1, kernel=(6, 5), stride=(6, 5))
    product = QTensor(shape, float(np.float32(scale * scale * ratio * (0.5 + factor))), out_zero)
    model = Int8Model(
        (first, QTensor(other, scale, zero), product), (pool, QOp(Kind.MUL, (0, 1), 2)), (Port(0),), (Port(2),)
    )
    data = write_tflite(model)
    x = np.random.default_rng(seed).integers(-128, 128, (8, *shape[1:])).astype(np.int8)
    assert np.array_equal(ReferenceInterpreter(read_tflite(data)).run(x), tflm.run(data, x))


def test_elu_is_what_the_other_interpreter_gives():
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model = one_operator(Kind.ELU, (0.05, 10), (0.04, -90))
    optimised = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # the reference resolver has no ELU
    interpreter = litert.Interpreter(model_content=write_tflite(model), experimental_op_resolver_type=optimised)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ALL)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.array_equal(found, ReferenceInterpreter(model).run(ALL))
