import os
import threading

import numpy as np
import pytest

from mcu.errors import InputError
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite

pytestmark = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")


def test_measuring_leaves_stderr_silent_and_in_place(random_model, capfd):
    before = os.fstat(2)
    tflm.measure_arena(write_tflite(random_model(0)))
    assert os.path.samestat(before, os.fstat(2))
    assert capfd.readouterr().err == ""


def test_arena_parts_add_up(random_model):
    use = tflm.measure_arena(write_tflite(random_model(0)))
    assert use.total == use.activations + use.persistent > 0


def test_a_refused_file_is_one_clear_error_and_stderr_is_restored(capfd):
    with pytest.raises(InputError, match=r"^mine\.tflite: TensorFlow Lite Micro refuses it: ") as error:
        tflm.measure_arena(b"\x1c\0\0\0TFL3" + bytes(64), "mine.tflite")
    assert "\n" not in str(error.value)
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_inputs_of_another_shape_are_refused(random_model):
    with pytest.raises(InputError, match="allowed is int8"):
        tflm.run(write_tflite(random_model(0)), np.zeros((1, 2, 2, 1), np.int8))


def test_threads_measure_at_the_same_time(random_model):
    files = [write_tflite(random_model(seed)) for seed in range(4)]
    expected = [tflm.measure_arena(data) for data in files]
    found = [None] * len(files)

    def measure(index):
        for _ in range(5):
            found[index] = tflm.measure_arena(files[index])

    threads = [threading.Thread(target=measure, args=(index,)) for index in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_absence_of_the_interpreter_is_said_in_one_line(monkeypatch, random_model):
    monkeypatch.setattr(tflm, "available", lambda: False)
    with pytest.raises(InputError, match="tflite-micro is not installed"):
        tflm.measure_arena(write_tflite(random_model(0)))
