"""Tasks whose targets are no class numbers, and machines that hum."""

import wave

import numpy as np
import pytest

from mcu.errors import InputError
from mcu.terms import TaskKind
from search_spaces.audio.machines import recording
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task
from search_spaces.tasks.arrays import from_arrays

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
TARGETS = {
    "multi-label": (RNG.random((120, 3)) > 0.5).astype(int),
    "regression": RNG.normal(size=120),
    "reconstruction": np.arange(120) % 4 == 0,
    "grid": RNG.integers(0, 3, (120, 2, 2)),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_arrays_of_every_kind_become_a_task_that_can_be_cut(kind):
    task = from_arrays({"x": X, "y": TARGETS[kind], "kind": np.array(kind)}, "mine")
    assert task.kind == kind
    assert task.outputs == {"multi-label": 3, "regression": 1, "reconstruction": 4, "grid": 3}[kind]
    assert sum(len(y) for _, _, y in task.splits()) == 120
    if kind == "reconstruction":
        assert not task.y_train.any()
        assert task.y_val.sum() + task.y_test.sum() == 30
    if kind == "grid":
        assert task.cells == (2, 2)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("regression", np.array(["a"] * 120), "must be numbers"),
        ("multi-label", np.full((120, 2), 2), "must be 0 or 1"),
        ("grid", np.zeros(120, int), r"must be whole numbers \(n, rows, columns\)"),
        ("regression", np.full(120, np.nan), "NaN or infinity"),
        ("regression", np.full(120, 3.0), "target 0 is 3 throughout: there is nothing to tell"),
        ("detection", np.zeros(120), "kind = 'detection': must be one of classification"),
        ("regression", np.zeros(119), "must be one target for each of 120"),
        ("multi-label", np.tile([1, 0], (120, 1)), r"has no sample of label 1 \(1\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(kind, y, message):
    with pytest.raises(InputError, match=message):
        from_arrays({"x": X, "y": y, "kind": np.array(kind)}, "mine")


@pytest.mark.parametrize("augment", ["shift", "shift_flip", "time_shift", "spec_augment"])
def test_augmentation_that_would_part_a_sample_from_its_cells_is_refused(augment):
    given = {"x": X[:, :, None, None], "y": TARGETS["grid"], "kind": np.array("grid")}
    with pytest.raises(InputError, match=f"augment = '{augment}': moves samples and not the cells"):
        from_arrays(given, "mine", augment=augment)
    assert from_arrays(given, "mine", augment="jitter").augment == "jitter"


def test_machine_sound_trains_on_normal_recordings_alone_and_is_the_same_every_time():
    choice = TaskChoice(name="machine-sound", options={"clips": 12})
    task, again = load_task(choice), load_task(choice)
    assert task.input_shape == (1, 5, 128)
    assert task.outputs == 640
    assert task.counts()["train"][1] == 0
    recordings = np.unique(task.y_test, axis=0)
    assert sorted(recordings[:, 0]) == [0, 0, 0, 1]
    assert len(set(recordings[:, 1])) == len(set(task.groups_test)) == 4
    assert np.array_equal(task.x_train, again.x_train)


def test_samples_of_a_recording_stay_together():
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(40), 3)
    y = np.stack([recording >= 28, recording], 1).astype(np.int64)
    given = {"x": rng.random((120, 2, 2), np.float32), "y": y, "kind": np.array("reconstruction")}
    task = from_arrays(given, "mine")
    seen = [set(part[:, 1]) for _, _, part in task.splits()]
    assert sum(map(len, seen)) == 40
    assert not task.y_train[:, 0].any()
    assert all(len(part) > 5 for part in seen)
    given["y"] = np.where(np.arange(120)[:, None] == 0, [[1, 0]], y)
    with pytest.raises(InputError, match="recording 0 has samples of both labels"):
        from_arrays(given, "mine")
    given["y"] = np.zeros((120, 3), int)
    with pytest.raises(InputError, match=r"must be whole numbers \(n,\), or \(n, 2\) with the recording's number"):
        from_arrays(given, "mine")


def test_recordings_of_a_folder(tmp_path):
    rng = np.random.default_rng(1)
    for name, count in (("normal", 12), ("abnormal", 4)):
        (tmp_path / name).mkdir()
        for index in range(count):
            with wave.open(str(tmp_path / name / f"{index:02}.wav"), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes(recording(rng, index % 2, name == "abnormal").tobytes())
    task = load_task(TaskChoice(name="anomaly-folder", data=str(tmp_path)))
    assert task.kind is TaskKind.RECONSTRUCTION
    windows = task.counts()["train"][0] // 8
    assert task.counts() == {"train": [8 * windows, 0], "val": [2 * windows] * 2, "test": [2 * windows] * 2}
    (tmp_path / "abnormal" / "00.wav").rename(tmp_path / "00.wav")
    for path in (tmp_path / "abnormal").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"abnormal holds 0 \.wav files, needs at least 2"):
        load_task(TaskChoice(name="anomaly-folder", data=str(tmp_path)))
