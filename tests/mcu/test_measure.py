import numpy as np
import pytest

from mcu import measure
from mcu.cost.arena import greedy_plan, lifetimes
from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind
from mcu.graph.ports import Port
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import ReferenceMismatchError, check_against_interpreter, evaluate, live_memory, measure_model
from mcu.tflite import tflm
from mcu.tflite.reader import read_arena_plan
from mcu.tflite.writer import write_tflite

needs_interpreter = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")


@needs_interpreter
@pytest.mark.parametrize("seed", range(10))
def test_measured_and_predicted_figures_are_equal_for_our_files(seed, random_model, monkeypatch):
    data = write_tflite(random_model(seed))
    measured = measure_model(data)
    monkeypatch.setattr(tflm, "available", lambda: False)
    predicted = measure_model(data)
    assert measured.measured
    assert not predicted.measured
    assert (measured.flash, measured.sram, measured.sram_activations, measured.macs) == (
        predicted.flash, predicted.sram, predicted.sram_activations, predicted.macs,
    )  # fmt: skip


@needs_interpreter
def test_a_plan_in_the_file_is_obeyed_and_predicted(random_model, monkeypatch):
    for seed in range(6):
        model = random_model(seed)
        plan = greedy_plan(lifetimes(model))
        shifted = {tensor: offset + 64 for tensor, offset in enumerate(plan.offsets) if tensor % 2}
        data = write_tflite(model, shifted)
        assert read_arena_plan(data) == shifted
        measured = measure_model(data)
        with monkeypatch.context() as hidden:
            hidden.setattr(tflm, "available", lambda: False)
            assert measure_model(data).sram == measured.sram


@needs_interpreter
def test_a_file_the_interpreter_aborts_on_is_one_clear_error_though_our_writer_made_it():
    tensors = tuple(QTensor((1, 4, 4, 2), scale, 0) for scale in (0.5, 4.7e24, 0.02))
    relu = QOp(Kind.RELU, (0,), 1, activation=Activation.RELU)
    model = Int8Model(tensors, (relu, QOp(Kind.ADD, (0, 1), 2)), (Port(0),), (Port(2),))
    with pytest.raises(InputError, match=r"^theirs\.tflite: TensorFlow Lite Micro crashes on it \(SIGABRT\)"):
        measure_model(write_tflite(model), "theirs.tflite")


def test_the_layer_table_adds_up(random_model):
    model = random_model(4)
    measured = measure_model(write_tflite(model))
    assert sum(layer.macs for layer in measured.layers) == measured.macs == model.macs()
    assert [layer.output_shape for layer in measured.layers] == [model.tensors[op.output].shape for op in model.ops]
    assert max(layer.live for layer in measured.layers) <= measured.sram_activations


def test_live_memory_is_input_plus_output_for_a_chain(random_model):
    model = next(m for m in map(random_model, range(50)) if all(op.inputs == (op.output - 1,) for op in m.ops))
    sizes = [tensor.bytes for tensor in model.tensors]
    assert live_memory(model) == [sizes[op.inputs[0]] + sizes[op.output] for op in model.ops]


def test_accuracy_counts_right_answers(random_model, codes):
    model = random_model(2)
    x = codes(model, 40)
    y = ReferenceInterpreter(model).predict(x)
    assert evaluate(write_tflite(model), x, y) == 1.0
    y[:10] = (y[:10] + 1) % model.tensors[model.output].shape[-1]
    assert evaluate(write_tflite(model), x, y) == 0.75
    with pytest.raises(InputError, match="labels"):
        evaluate(write_tflite(model), x, y[:-1])


def test_real_inputs_are_quantised_channels_first(random_model, codes):
    model = random_model(2)
    source = model.tensors[model.input]
    x = codes(model, 20)
    real = (x.astype(np.float32) - source.zero_point).transpose(0, 3, 1, 2) * source.scale
    assert np.array_equal(measure.model_input(model, real), x)


@needs_interpreter
def test_a_twin_that_differs_is_a_defect(random_model, codes):
    model, other = random_model(6), random_model(6)
    other.ops[0].bias[:] += 4000
    with pytest.raises(ReferenceMismatchError, match="differ in"):
        check_against_interpreter(write_tflite(model), ReferenceInterpreter(other), (codes(model),))
