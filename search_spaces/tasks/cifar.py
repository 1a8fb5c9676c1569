"""CIFAR-10 from its own files: the python or the binary version, unpacked or as the archive they come in."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source
from search_spaces.tasks.download import downloaded
from search_spaces.tasks.pickled import read_pickle
from search_spaces.tasks.splits import sample_hashes, stratified_split
from search_spaces.tasks.task import Task, assemble

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
ROW = 1 + 3 * 32 * 32
BATCH_ROWS = 10_000
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
}
"""As its authors publish them and torchvision checks them; for unpacked .bin files none are published."""

PLACES = ("~/.cache/mcusweep/cifar10", "~/data", "data")
NEED = "a folder with cifar-10-batches-py, cifar-10-batches-bin or one of their .tar.gz archives"

Batch = tuple[np.ndarray, np.ndarray]


def cifar10(data: str | None = None) -> Task:
    """CIFAR-10, 60,000 images of 3 x 32 x 32 in 10 classes: 45,000 to train, 5,000 to validate, 10,000 to test.

    Python batches and archives must have the published MD5; .bin files the right size and labels. Only arrays, texts
    and numbers are unpickled.

    Args:
        data: the folder of the archive or of its unpacked content; by default the usual folders are searched.

    Raises:
        InputError: naming the file that is missing or differs from the published one.
    """
    read = _reader(_place(data))
    batches = [read(name) for name in BATCHES]
    x = np.concatenate([images for images, _ in batches[:-1]])
    y = np.concatenate([labels for _, labels in batches[:-1]])
    val, train = stratified_split(y, sample_hashes(x), [len(y) // 10])
    return assemble(
        "cifar10",
        {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": batches[-1]},
        CLASSES,
        normalise=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        augment="shift_flip",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        licence="none stated by its authors",
    )


def cifar10_source(data: str | None = None, **_: object) -> Source:
    """What :func:`cifar10` reads."""
    place = _place(data)
    if place.is_file():
        return Source("1", (place,))
    suffix = ".bin" if (place / f"{BATCHES[0]}.bin").is_file() else ""
    return Source("1", tuple(place / f"{name}{suffix}" for name in BATCHES))


def _place(data: str | None) -> Path:
    """The folder of batches or the archive; each name is looked for in every place before the next."""
    roots = [user_path(place) for place in ([data] if data else [*PLACES, str(downloaded("cifar10"))])]
    if data and roots[0].is_dir() and (roots[0] / BATCHES[0]).is_file():
        return roots[0]
    if data and roots[0].is_dir() and (roots[0] / f"{BATCHES[0]}.bin").is_file():
        return roots[0]
    for root in roots:
        for name in ("cifar-10-batches-py", "cifar-10-batches-bin"):
            if (root / name).is_dir():
                return root / name
        for archive in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"):
            if (root / archive).is_file():
                return root / archive
    where = (
        f"task.data = {data!r} is not it"
        if data
        else "not found here: `mcusweep tasks --download cifar10` or --set task.data=DIR"
    )
    raise InputError(f"task 'cifar10': {where}: needs {NEED}")


def _reader(place: Path) -> Callable[[str], Batch]:
    if place.is_file():
        _check_md5(place.read_bytes(), place)
        return lambda name: _from_archive(place, name)
    if (place / f"{BATCHES[0]}.bin").is_file():
        return lambda name: _binary(_content(place / f"{name}.bin"), place / f"{name}.bin")
    return lambda name: _python(_content(place / name), place / name)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"task 'cifar10': {path} is missing: needs {NEED}")
    content = path.read_bytes()
    if path.name in MD5:
        _check_md5(content, path)
    return content


def _check_md5(content: bytes, path: Path) -> None:
    found = md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[path.name]:
        raise InputError(f"{path}: has MD5 {found}, the published file has {MD5[path.name]}: download it again")


def _from_archive(path: Path, name: str) -> Batch:
    python = "python" in path.name
    member = f"cifar-10-batches-py/{name}" if python else f"cifar-10-batches-bin/{name}.bin"
    try:
        with tarfile.open(path) as archive:
            file = archive.extractfile(member)
            content = file.read() if file else b""
    except (tarfile.TarError, OSError, KeyError, EOFError) as error:
        raise InputError(f"{path}: {member} cannot be read: {error}") from None
    return _python(content, f"{path}:{member}") if python else _binary(content, f"{path}:{member}")


def _binary(content: bytes, where: Path | str) -> Batch:
    if len(content) != BATCH_ROWS * ROW:
        raise InputError(f"{where}: has {len(content):,} bytes, must have {BATCH_ROWS * ROW:,}")
    rows = np.frombuffer(content, np.uint8).reshape(BATCH_ROWS, ROW)
    return _checked(rows[:, 1:], rows[:, 0], where)


def _python(content: bytes, where: Path | str) -> Batch:
    table = read_pickle(content, where)
    if not isinstance(table, dict) or not isinstance(table.get("data"), np.ndarray) or "labels" not in table:
        raise InputError(f"{where}: must hold data and labels")
    if table["data"].dtype != np.uint8 or table["data"].shape != (BATCH_ROWS, ROW - 1):
        raise InputError(f"{where}: data are {table['data'].dtype} {table['data'].shape}, must be {BATCH_ROWS} images")
    return _checked(table["data"], np.asarray(table["labels"]), where)


def _checked(pixels: np.ndarray, labels: np.ndarray, where: Path | str) -> Batch:
    if (
        labels.shape != (BATCH_ROWS,)
        or labels.dtype.kind not in "iu"
        or labels.max() >= len(CLASSES)
        or labels.min() < 0
    ):
        raise InputError(f"{where}: must hold {BATCH_ROWS:,} labels of 0 to {len(CLASSES) - 1}")
    return pixels.reshape(-1, 3, 32, 32).copy(), labels.astype(np.int64)
