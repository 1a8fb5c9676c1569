import time

import pytest

from mcu.int8.structure import structure_of
from mcu.tflite.flatbuffer_size import metadata_bytes, predict_flash
from mcu.tflite.writer import write_tflite


@pytest.mark.parametrize("seed", range(120))
def test_predicted_size_is_the_size_of_the_written_file(seed, random_model):
    metadata = {"k": "v" * (seed % 9)} if seed % 3 == 0 else {}
    model = random_model(seed, metadata)
    structure = structure_of(model)
    assert predict_flash(model) == predict_flash(structure, metadata) == len(write_tflite(model))
    offsets = dict.fromkeys(range(len(model.tensors)), 0)
    assert predict_flash(model, offline_plan=True) == len(write_tflite(model, offsets))


@pytest.mark.parametrize("seed", range(24))
def test_predicted_size_holds_for_foreign_operators(seed, foreign_model):
    assert predict_flash(foreign_model(seed)) == len(write_tflite(foreign_model(seed)))


def test_metadata_cost_is_what_the_file_grows_by(random_model):
    plain, labelled = random_model(4), random_model(4, {"labels": "a,b,c"})
    grown = len(write_tflite(labelled)) - len(write_tflite(plain))
    assert metadata_bytes(structure_of(plain), labelled.metadata) == grown


def test_resizing_a_structure_predicts_the_resized_model(random_model):
    model = random_model(7)
    structure = structure_of(model)
    channels = [shape[-1] for shape in structure.shapes]
    assert structure.with_channels(channels) == structure
    channels[-1] += 16
    wider = structure.with_channels(channels)
    inner = structure.shapes[structure.ops[-1].inputs[0]][-1]
    kernel = structure.ops[-1].kernel
    extra = 16 * (inner * kernel[0] * kernel[1] + 4 + 4)
    assert predict_flash(wider) - predict_flash(structure) >= extra


def test_a_prediction_takes_less_than_two_milliseconds(random_model):
    structure = structure_of(max((random_model(seed) for seed in range(30)), key=lambda model: len(model.ops)))
    predict_flash(structure)
    start = time.process_time()
    for _ in range(20):
        predict_flash(structure)
    assert (time.process_time() - start) / 20 < 0.002
