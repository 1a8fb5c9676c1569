import numpy as np
import pytest

from mcu.errors import InputError
from mcu.tflite import apart, tflm
from mcu.tflite.writer import write_tflite

pytestmark = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")


def test_another_process_gives_the_same_figures_and_outputs(random_model, codes):
    model = random_model(3)
    data, x = write_tflite(model), codes(model, 3)
    assert apart.measure_arena(data) == tflm.measure_arena(data)
    assert np.array_equal(apart.run(data, x), tflm.run(data, x))


def test_a_crash_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(apart, "_CHILD", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(InputError, match=r"^theirs\.tflite: TensorFlow Lite Micro crashes on it \(SIGSEGV\)"):
        apart.measure_arena(b"", "theirs.tflite")


def test_a_file_without_an_end_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(apart, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(apart, "LONGEST_S", 0.5)
    with pytest.raises(InputError, match=r"^theirs\.tflite: .* does not finish within 0\.5 s"):
        apart.measure_arena(b"", "theirs.tflite")


def test_a_refusal_comes_back_as_one_line():
    with pytest.raises(InputError, match=r"^theirs\.tflite: TensorFlow Lite Micro refuses it: ") as error:
        apart.measure_arena(b"\x1c\0\0\0TFL3" + bytes(64), "theirs.tflite")
    assert "\n" not in str(error.value)


def test_modules_of_the_current_folder_are_not_imported(random_model, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(5)")
    monkeypatch.chdir(tmp_path)
    assert apart.measure_arena(write_tflite(random_model(0))).total > 0
