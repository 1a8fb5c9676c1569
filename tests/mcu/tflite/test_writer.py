import json
from dataclasses import replace

import numpy as np
import pytest

from mcu.graph.kinds import Kind
from mcu.tflite import tflm
from mcu.tflite.flatbuffer import TableView
from mcu.tflite.reader import read_tflite
from mcu.tflite.writer import write_tflite

litert = pytest.importorskip("ai_edge_litert.interpreter")


def reference_outputs(data: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = litert.Interpreter(
        model_content=data, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for example in x:
        interpreter.set_tensor(source, example[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target).copy())
    return np.concatenate(outputs)


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
@pytest.mark.parametrize("seed", range(40))
def test_both_interpreters_run_the_file_with_equal_outputs(seed, random_model, codes):
    model = random_model(seed)
    known = [replace(op, kind=Kind.LEAKY_RELU) if op.kind is Kind.ELU else op for op in model.ops]  # no reference ELU
    model = replace(model, ops=tuple(known))
    data, x = write_tflite(model), codes(model, 4)
    assert np.array_equal(tflm.run(data, x), reference_outputs(data, x))


@pytest.mark.parametrize("seed", range(60))
def test_reading_and_writing_again_gives_the_same_bytes(seed, random_model, foreign_model):
    for make in (random_model, foreign_model):
        data = write_tflite(make(seed))
        assert write_tflite(read_tflite(data)) == data


def test_metadata_comes_back_and_is_one_json_buffer(random_model):
    metadata = {"labels": "null,eins", "seed": "7", "note": "größer"}
    data = write_tflite(random_model(3, metadata))
    assert read_tflite(data).metadata == metadata
    assert json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode() in data


def test_a_published_verifier_sees_a_model_of_schema_version_3(random_model):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(write_tflite(random_model(2)), 0))
    assert model.version == 3
    assert len(model.subgraphs[0].operators) == len(random_model(2).ops)


def test_vectors_are_aligned_for_their_elements(random_model):
    data = write_tflite(random_model(5))
    graph = TableView.root(data, b"TFL3").tables(2)[0]
    for tensor in graph.tables(0):
        quantisation = tensor.table(4)
        if quantisation is not None:
            zero_points = quantisation.numbers(3, "<i8")
            assert (zero_points.__array_interface__["data"][0] - _base(data)) % 8 == 0


def _base(data: bytes) -> int:
    return np.frombuffer(data, np.uint8).__array_interface__["data"][0]
