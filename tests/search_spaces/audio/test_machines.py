"""Tasks of machines that hum: training hears normal ones alone, and what is judged has both."""

import numpy as np
import pytest

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task


def made(**options):
    return load_task(TaskChoice(name="machine-sound", options={"clips": 12, **options}))


@pytest.fixture
def folder(tmp_path, write):
    return write["machines"](tmp_path / "machines")


def loaded(folder):
    return load_task(TaskChoice(name="anomaly-folder", data=str(folder)))


@pytest.mark.parametrize("source", ["made", "folder"])
def test_training_is_normal_and_the_rest_has_both(source, request):
    task = made() if source == "made" else loaded(request.getfixturevalue("folder"))
    assert task.input_shape == (1, 5, 128)
    assert set(np.unique(task.y_train[:, 0])) == {0}
    assert set(np.unique(task.y_val[:, 0])) == set(np.unique(task.y_test[:, 0])) == {0, 1}
    assert len(np.unique(task.y_test, axis=0)) == len(np.unique(task.y_test[:, 1]))  # a recording has one label
    assert np.isfinite(task.prepare(np.asarray(task.x_train))).all()


def test_the_seed_alone_decides_the_recordings():
    first, again, other = made(), made(), made(seed=1)
    assert np.array_equal(np.asarray(first.x_test), np.asarray(again.x_test))
    assert not np.array_equal(np.asarray(first.x_test), np.asarray(other.x_test))


def test_what_cannot_be_used_is_refused_by_name(folder, tmp_path):
    with pytest.raises(InputError, match="clips = 3: must be 12 to 100,000"):
        made(clips=3)
    with pytest.raises(InputError, match=r"task\.data is missing"):
        load_task(TaskChoice(name="anomaly-folder"))
    (folder / "abnormal" / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"0\.wav"):
        loaded(folder)
