import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import cifar, load_task
from search_spaces.tasks.pickled import read_pickle


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "BATCH_ROWS", 40)


def folder_task(folder, **options):
    return load_task(TaskChoice(name="image-folder", data=str(folder), options=options))


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


def test_images_are_fitted_to_one_size(tmp_path, write):
    task = folder_task(write["images"](tmp_path / "p"), size=16)
    assert (task.input_shape, task.classes, task.x_train.dtype) == ((3, 16, 16), ("cup", "key", "pen"), np.uint8)
    assert sum(map(sum, task.counts().values())) == 60
    assert folder_task(tmp_path / "p", size=16, colour="grey").input_shape == (1, 16, 16)


def save(path, pixels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)


def gradient(seed, dtype=np.uint8, top=255):
    return ((np.arange(64).reshape(8, 8) / 63 * 0.8 + 0.002 * seed) * top).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "dtype", "top"), [(".png", np.uint16, 65535), (".tif", np.float32, 1.0), (".png", np.uint8, 255)]
)
def test_images_of_other_depths_keep_their_greys(tmp_path, suffix, dtype, top):
    for label in "ab":
        for seed in range(8):
            save(tmp_path / "p" / label / f"{seed}{suffix}", gradient(seed + (20 if label == "b" else 0), dtype, top))
    task = folder_task(tmp_path / "p", size=8, colour="grey")
    darkest = min(x.min() for _, x, _ in task.splits())
    brightest = max(x.max() for _, x, _ in task.splits())
    assert darkest <= 1
    assert 210 <= brightest <= 220


def test_images_are_turned_upright(tmp_path):
    for label in "ab":
        for seed in range(5):
            pixels = np.full((8, 8), 10 * seed + (5 if label == "b" else 0), np.uint8)
            pixels[0] = 255
            exif = Image.Exif()
            exif[274] = 6 if label == "b" else 1  # 6: the camera was turned, the first row is on the right
            save(tmp_path / "p" / label / f"{seed}.png", pixels, exif=exif)
    task = folder_task(tmp_path / "p", size=8, colour="grey")
    upright, turned = (task.x_test[task.y_test == label][0, 0] for label in (0, 1))
    assert (upright[0] == 255).all()
    assert (turned[:, -1] == 255).all()


def test_files_that_are_no_images_are_named_and_left_out(tmp_path, write, capsys):
    folder = write["images"](tmp_path / "p")
    whole = (folder / "cup" / "3.png").read_bytes()
    (folder / "cup" / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "pen" / "7.png").write_bytes(b"hello")
    (folder / "pen" / "notes.txt").write_text("no image, and no name of one")
    task = folder_task(folder)
    assert sum(map(sum, task.counts().values())) == 58
    said = capsys.readouterr().err
    assert "left out 2 of 60 files" in said
    assert "cup/3.png" in said
    assert "pen/7.png" in said


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: (folder / "empty").mkdir(), "empty: holds no image among 0 files"),
        (
            lambda folder: [path.write_bytes(b"") for path in (folder / "cup").iterdir()],
            "cup: holds no image among 20",
        ),
        (lambda folder: [path.unlink() for path in list((folder / "cup").iterdir())[2:]], "label 0 has 2 different"),
    ],
)
def test_a_class_without_enough_images_is_refused(tmp_path, write, build, message):
    build(write["images"](tmp_path / "p"))
    with pytest.raises(InputError, match=message):
        folder_task(tmp_path / "p")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 2}, "size = 2: must be 4 to 1024"), ({"colour": "blue"}, "colour = 'blue': must be one of rgb, grey")],
)
def test_unknown_options_of_images_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        folder_task(tmp_path, **options)


def test_one_class_is_no_task(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for name in ("key", "pen"):
        (folder / name).rename(folder / f".{name}")
    with pytest.raises(InputError, match="has 1 class folders, needs at least 2"):
        folder_task(folder)


def test_equal_images_are_in_one_split(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for path in sorted((folder / "cup").iterdir()):
        (folder / "cup" / f"copy of {path.name}").write_bytes(path.read_bytes())
    task = folder_task(folder)
    seen = [{sample.tobytes() for sample in x} for _, x, _ in task.splits()]
    assert not seen[0] & seen[1] | seen[1] & seen[2] | seen[0] & seen[2]


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
