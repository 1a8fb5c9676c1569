import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import cifar, load_task
from search_spaces.tasks.pickled import read_pickle


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "BATCH_ROWS", 40)


def known(monkeypatch, folder):
    """Let the files of this folder be the published ones."""
    from hashlib import md5

    for name in cifar.MD5:
        if (folder / name).is_file():
            monkeypatch.setitem(cifar.MD5, name, md5((folder / name).read_bytes()).hexdigest())


def archive(folder, kind, name):
    with tarfile.open(folder / name, "w:gz") as tar:
        for file in sorted((folder / kind).iterdir()):
            tar.add(file, f"{kind}/{file.name}")


@pytest.mark.parametrize("archived", [False, True])
def test_both_versions_of_cifar_hold_the_same_images(tmp_path, write, monkeypatch, archived):
    tasks = []
    for kind, suffix, name in (
        ("cifar-10-batches-py", "", "cifar-10-python.tar.gz"),
        ("cifar-10-batches-bin", ".bin", "cifar-10-binary.tar.gz"),
    ):
        root = tmp_path / kind
        write["cifar"](root / kind, 40, suffix)
        known(monkeypatch, root / kind)
        if archived:
            archive(root, kind, name)
            known(monkeypatch, root)
            for file in (root / kind).iterdir():
                file.unlink()
            (root / kind).rmdir()
        tasks.append(load_task(TaskChoice(name="cifar10", data=str(root))))
    python, binary = tasks
    assert python.counts() == {"train": [18] * 10, "val": [2] * 10, "test": [4] * 10}
    assert np.array_equal(python.x_train, binary.x_train)
    assert np.array_equal(python.y_test, binary.y_test)
    assert np.array_equal(python.x_test[0].ravel(), np.random.default_rng(5).integers(0, 256, (40, 3072), np.uint8)[0])


def test_a_python_batch_that_is_not_the_published_one_is_refused(tmp_path, write):
    with pytest.raises(InputError, match=r"data_batch_1: has MD5 .* the published file has c99cafc1"):
        load_task(TaskChoice(name="cifar10", data=str(write["cifar"](tmp_path / "c", 40))))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1], "has 122,919 bytes, must have 122,920"),
        (lambda content: b"\x0a" + content[1:], "must hold 40 labels of 0 to 9"),
    ],
)
def test_a_damaged_binary_batch_is_refused(tmp_path, write, spoil, message):
    folder = write["cifar"](tmp_path / "c", 40, ".bin")
    path = folder / "data_batch_3.bin"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        load_task(TaskChoice(name="cifar10", data=str(folder)))


def test_missing_cifar_says_what_is_needed(tmp_path):
    with pytest.raises(InputError, match="needs a folder with cifar-10-batches-py"):
        load_task(TaskChoice(name="cifar10", data=str(tmp_path)))


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Harmful()),
        pickle.dumps({"data": Harmful()}, protocol=2),
        b"cos\nsystem\n(S'touch harmed'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x02",
        b"not a pickle",
        b"",
    ],
)
def test_a_pickle_runs_nothing_it_names(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a pickle of arrays"):
        read_pickle(content, "some file")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_texts_and_numbers_are_unpickled(protocol):
    table = {"x": np.arange(6).reshape(2, 3), "y": [1, 2.5, "three"], "z": np.float64(4)}
    read = read_pickle(pickle.dumps(table, protocol=protocol), "here")
    assert np.array_equal(read["x"], table["x"])
    assert (read["y"], read["z"]) == (table["y"], 4)


def watch(folder, **options):
    return load_task(TaskChoice(name="watch", data=str(folder), options=options))


def test_windows_of_a_subject_are_in_one_split(tmp_path, write):
    task = watch(write["watch"](tmp_path / "w"), held_out=3)
    assert set(task.groups_test) == {"03"}
    assert task.input_shape == (6, 100, 1)
    assert task.counts()["test"] == [2, 3, 2, 3, 2, 3, 2]
    assert task.classes == tuple("abcdefg")


def test_a_subject_that_does_not_exist_is_refused(tmp_path, write):
    with pytest.raises(InputError, match="held_out = 11: must be 0 or one of 01, 02"):
        watch(write["watch"](tmp_path / "w"), held_out=11)


def test_a_watch_file_that_names_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    np.save(content, np.array(Harmful(), dtype=object), allow_pickle=True)
    (tmp_path / "watch_dataset.npy").write_bytes(content.getvalue())
    with pytest.raises(InputError, match="which an array does not need"):
        watch(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_other_arrays_are_no_watch_data(tmp_path):
    np.save(tmp_path / "watch_dataset.npy", np.zeros(3))
    with pytest.raises(InputError, match="must hold a dictionary of X, subject, y, y_labels"):
        watch(tmp_path)
