import io
import os
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task, task_digest
from search_spaces.tasks.digest import content_digest
from search_spaces.tasks.npz import read_arrays
from search_spaces.tasks.rows import Rows, mapping_of
from search_spaces.tasks.splits import grouped_split
from search_spaces.tasks.store import cache_folder, stored


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small_is_large(monkeypatch):
    """Every array counts as too large for memory."""
    monkeypatch.setattr("search_spaces.tasks.npz.LARGE", 0)
    monkeypatch.setattr("search_spaces.tasks.store.LARGE", 0)


def arrays(count=90, seed=0, dtype=np.float32):
    x = np.random.default_rng(seed).normal(size=(count, 2, 5, 4)) * 100
    return {"x": x.astype(dtype), "y": np.arange(count) % 3}


def choice(path, **options):
    return TaskChoice(name="arrays", path=str(path), options=options)


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MCUSWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mcusweep"


def test_a_second_load_reads_mapped_arrays_and_not_the_source(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **arrays())
    first = load_task(choice(tmp_path / "a.npz"))
    monkeypatch.setattr("search_spaces.tasks.arrays.read_arrays", lambda path: pytest.fail("read again"))
    second = load_task(choice(tmp_path / "a.npz"))
    for one, other in zip(first.splits(), second.splits(), strict=True):
        assert np.array_equal(one[1], other[1])
        assert np.array_equal(one[2], other[2])
        assert mapping_of(other[1]) is not None
    assert (second.normalise, second.classes, second.input_shape) == (first.normalise, first.classes, first.input_shape)


def test_a_second_load_takes_less_than_a_second():
    load_task(TaskChoice(name="mnist-5k"))
    start = time.process_time()
    load_task(TaskChoice(name="mnist-5k"))
    assert time.process_time() - start < 1


def test_writing_to_a_loaded_task_does_not_reach_the_cache(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    task = load_task(choice(tmp_path / "a.npz"))
    before = task.x_train.copy()
    task.x_train[:] = 0
    assert np.array_equal(load_task(choice(tmp_path / "a.npz")).x_train, before)


def test_changed_data_are_another_task(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    old, digest = load_task(choice(path)), task_digest(choice(path))
    assert digest == task_digest(choice(path))
    state = path.stat()
    np.savez(path, **arrays(seed=1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert task_digest(choice(path)) != digest
    assert not np.array_equal(load_task(choice(path)).x_train, old.x_train)


def test_the_digest_depends_on_content_and_options_but_not_on_the_place(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    digest = task_digest(choice(tmp_path / "a.npz"))
    assert digest == task_digest(choice(tmp_path / "b.npz"))
    assert digest == task_digest(choice(tmp_path / "a.npz", train_limit=9))
    assert digest != task_digest(choice(tmp_path / "a.npz", augment="shift"))


def test_the_digest_of_a_factory_follows_its_file(tmp_path):
    source = tmp_path / "made.py"
    source.write_text("def f():\n    return 1\n")
    factory = TaskChoice(name="made:f", base=str(tmp_path))
    digest = task_digest(factory)
    source.write_text("def f():\n    return 2\n")
    assert task_digest(factory) != digest


def test_content_is_read_once_while_nothing_moves(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    monkeypatch.setattr("search_spaces.tasks.digest.SETTLED_S", -1.0)
    digest = content_digest(folder)
    monkeypatch.setattr("search_spaces.tasks.digest._bytes_digest", lambda file: pytest.fail("read again"))
    assert content_digest(folder) == digest
    monkeypatch.setattr("search_spaces.tasks.digest._bytes_digest", lambda file: "read")
    (folder / "b").rename(folder / "c")
    assert content_digest(folder) != digest


def test_content_of_a_file_that_just_changed_is_not_remembered(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    digest = content_digest(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"2")
    assert content_digest(tmp_path / "a") != digest


@pytest.mark.parametrize("damage", ["truncate", "remove", "scribble"])
def test_a_damaged_cache_is_made_again(tmp_path, cache, damage):
    np.savez(tmp_path / "a.npz", **arrays())
    first = load_task(choice(tmp_path / "a.npz"))
    before = first.x_train.copy()
    manifest = next((cache / "tasks").glob("*.json"))
    array = max((cache / "arrays").glob("*.npy"), key=lambda file: file.stat().st_size)
    if damage == "truncate":
        array.write_bytes(array.read_bytes()[:200])
    elif damage == "remove":
        array.unlink()
    else:
        manifest.write_text('{"format": 1}')
    assert np.array_equal(load_task(choice(tmp_path / "a.npz")).x_train, before)


def test_without_a_cache_to_write_to_tasks_load_all_the_same(tmp_path, monkeypatch, small_is_large):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    np.savez(tmp_path / "a.npz", **arrays())
    assert load_task(choice(tmp_path / "a.npz")).counts()["test"] == [5, 5, 4]


def test_limits_are_cached_apart(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    assert len(load_task(choice(tmp_path / "a.npz", train_limit=9)).x_train) == 9
    assert len(load_task(choice(tmp_path / "a.npz", train_limit=12)).x_train) == 12
    assert len(load_task(choice(tmp_path / "a.npz")).x_train) > 12


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("layout", "dtype"), [("nchw", np.float32), ("nhwc", np.int16), ("nhwc", np.uint8)])
def test_mapped_arrays_give_the_task_that_arrays_in_memory_give(tmp_path, monkeypatch, write, layout, dtype):
    write(tmp_path / "a.npz", **arrays(dtype=dtype))
    in_memory = load_task(choice(tmp_path / "a.npz", layout=layout))
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("search_spaces.tasks.npz.LARGE", 0)
    monkeypatch.setattr("search_spaces.tasks.store.LARGE", 0)
    assert mapping_of(read_arrays(tmp_path / "a.npz")["x"]) is not None
    mapped = load_task(choice(tmp_path / "a.npz", layout=layout))
    for one, other in zip(in_memory.splits(), mapped.splits(), strict=True):
        assert np.array_equal(one[1], other[1])
        assert one[1].dtype == other[1].dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert np.allclose(in_memory.normalise, mapped.normalise)


def test_a_folder_of_npy_files_is_read_like_an_npz(tmp_path, small_is_large):
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "folder").mkdir()
    for name, values in arrays().items():
        np.save(tmp_path / "folder" / f"{name}.npy", values)
    one, other = load_task(choice(tmp_path / "a.npz")), load_task(choice(tmp_path / "folder"))
    assert np.array_equal(one.x_test, other.x_test)


def test_fortran_order_survives_mapping(tmp_path, small_is_large):
    x = np.asfortranarray(arrays()["x"])
    np.savez(tmp_path / "a.npz", x=x)
    assert np.array_equal(read_arrays(tmp_path / "a.npz")["x"], x)


def test_a_damaged_mapped_array_is_refused(tmp_path, small_is_large):
    np.savez(tmp_path / "a.npz", **arrays())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"'x\.npy' is not a readable array.*damaged") as caught:
        read_arrays(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def test_python_objects_in_a_mapped_npz_are_never_unpickled(tmp_path, small_is_large):
    np.savez(tmp_path / "a.npz", x=np.array([{}] * 9, dtype=object))
    with pytest.raises(InputError, match="without Python objects"):
        read_arrays(tmp_path / "a.npz")


def test_equal_content_is_stored_once():
    x = arrays()["x"]
    assert stored(x) == stored(Rows(np.concatenate([x, x]), index=np.arange(len(x))))
    assert stored(x) != stored(x.reshape(len(x), 1, 10, 4))


WRITE_LARGE = """
import sys, zipfile, numpy as np
path, count = sys.argv[1], int(sys.argv[2])
with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
    with archive.open("x.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, 1, 256, 256)})
        for start in range(0, count, 64):
            rows = np.zeros((min(64, count - start), 65536), np.uint8)
            rows[:, :4] = np.arange(start, start + len(rows), dtype="<u4").view(np.uint8).reshape(-1, 4)
            file.write(rows.tobytes())
    with archive.open("y.npy", "w") as file:
        np.lib.format.write_array(file, np.arange(count) % 4)
"""
LOAD_LARGE = """
import re, sys
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task
task = load_task(TaskChoice(name="arrays", path=sys.argv[1]))
assert sum(map(sum, task.counts().values())) == int(sys.argv[2])
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""


def peak_memory_of_loading(tmp_path, count):
    """Bytes of resident memory at most, mapped pages included, while ``count`` x 64 KB are loaded."""
    subprocess.run([sys.executable, "-c", WRITE_LARGE, str(tmp_path / "l.npz"), str(count)], check=True)
    return int(subprocess.check_output([sys.executable, "-c", LOAD_LARGE, str(tmp_path / "l.npz"), str(count)]))


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")


@needs_proc
def test_an_npz_larger_than_the_memory_used_is_loaded(tmp_path):
    assert peak_memory_of_loading(tmp_path, 4096) < 200 * 2**20  # 256 MB of samples


@needs_proc
@pytest.mark.slow
@pytest.mark.skipif("MCUSWEEP_SLOW_TESTS" not in os.environ, reason="needs 4 GB of disk: set MCUSWEEP_SLOW_TESTS=1")
def test_two_gigabytes_are_loaded_in_less_than_500_mb(tmp_path):
    assert peak_memory_of_loading(tmp_path, 32768) < 500 * 2**20
    with zipfile.ZipFile(tmp_path / "l.npz") as archive:
        assert archive.getinfo("x.npy").file_size > 2**31


def test_groups_keep_together(tmp_path):
    groups = np.repeat([f"person {number}" for number in range(10)], 9)
    np.savez(tmp_path / "a.npz", **arrays(), groups=groups)
    task = load_task(choice(tmp_path / "a.npz"))
    place = {sample.tobytes(): group for sample, group in zip(arrays()["x"], groups, strict=True)}
    people = [{place[sample.tobytes()] for sample in x} for _, x, _ in task.splits()]
    assert [len(of_split) for of_split in people] == [6, 2, 2]
    assert not people[0] & people[1] | people[1] & people[2] | people[0] & people[2]
    assert set(task.groups_test) == people[2]
    assert set(load_task(choice(tmp_path / "a.npz", test_limit=4)).groups_test) == people[2]


def test_groups_do_not_depend_on_the_order_of_samples():
    y, groups = np.arange(120) % 3, np.repeat(np.arange(12), 10)
    order = np.random.default_rng(0).permutation(120)
    parts = grouped_split(y, groups, [20, 20])
    again = grouped_split(y[order], groups[order], [20, 20])
    assert [sorted(order[part]) for part in again] == [part.tolist() for part in parts]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(90) % 2, "2 groups cannot make 3 splits"),
        (np.arange(90) % 3, "groups cannot be split so that every split has label"),
        (np.arange(80), r"groups: is int64 \(80,\), must be \(90,\)"),
        (np.arange(90) * 0.5, "must be .* texts or whole numbers"),
    ],
)
def test_unusable_groups_are_refused(tmp_path, groups, message):
    np.savez(tmp_path / "a.npz", **arrays(), groups=groups)
    with pytest.raises(InputError, match=message):
        load_task(choice(tmp_path / "a.npz"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of other systems")
def test_links_to_nowhere_and_pipes_are_no_content(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    before = content_digest(folder)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    assert content_digest(folder) == before


def test_linked_folders_are_content_and_a_loop_of_links_ends(tmp_path):
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a").write_bytes(b"a")
    (folder / "linked").symlink_to(elsewhere)
    before = content_digest(folder)
    (elsewhere / "back").symlink_to(folder)
    assert content_digest(folder) == before
    (elsewhere / "a").write_bytes(b"b")
    assert content_digest(folder) != before


def write_archive(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_folders_and_debris_in_an_archive_are_passed_over(tmp_path):
    debris = {"__MACOSX/": b"", "__MACOSX/._x.npy": b"\0", ".DS_Store": b"\0", "sub/": b""}
    write_archive(tmp_path / "a.npz", {**debris, **{f"{name}.npy": npy(x) for name, x in arrays().items()}})
    read = read_arrays(tmp_path / "a.npz")
    assert read.keys() == arrays().keys()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("readme.txt", b"hello", "a.npz: holds 'readme.txt', which is not a .npy array"),
        ("extra.npy", b"hello", "a.npz: 'extra.npy' is not a readable array"),
    ],
)
def test_a_member_that_is_no_array_is_named(tmp_path, name, content, message):
    write_archive(tmp_path / "a.npz", {name: content, **{f"{name}.npy": npy(x) for name, x in arrays().items()}})
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / "a.npz")
