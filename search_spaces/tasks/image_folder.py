"""Pictures in one folder for each class, of any size and kind that Pillow reads."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mcu.errors import InputError
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source
from search_spaces.tasks.splits import sample_hashes, stratified_split
from search_spaces.tasks.task import Task, assemble

VAL_SHARE, TEST_SHARE = 0.15, 0.15
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
COLOURS = {"rgb": ("RGB", 3), "grey": ("L", 1)}
SHOWN = 5


def image_folder(data: str | None = None, size: int = 32, colour: str = "rgb", augment: str = "shift_flip") -> Task:
    """Pictures of ``data``/CLASS/, upright by their EXIF data, cut square about the middle, scaled to one size.

    70 % train, 15 % validate, 15 % test, by the hash of the pixels: equal pictures are never in two splits.
    16-bit pictures are scaled to 8 bits. Files that are no whole picture are named on the standard error and left
    out.

    Args:
        data: the folder of class folders; others in them are searched too, names that begin with a dot are not.
        size: pixels of a side.
        colour: ``rgb`` or ``grey``.
        augment: how training batches are varied.

    Raises:
        InputError: for no or one class, a class without pictures, or a bad option.
    """
    if colour not in COLOURS:
        raise InputError(f"task 'image-folder': colour = {colour!r}: must be one of {', '.join(COLOURS)}")
    if isinstance(size, bool) or not 4 <= size <= 1024:
        raise InputError(f"task 'image-folder': size = {size!r}: must be 4 to 1024 pixels")
    folder = _folder(data)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"task 'image-folder': {folder}: has {len(classes)} class folders, needs at least 2")
    pictures, labels, broken = [], [], []
    for label, name in enumerate(classes):
        files = _files(folder / name)
        read = [(file, _picture(file, size, colour)) for file in files]
        whole = [picture for _, picture in read if picture is not None]
        broken += [file for file, picture in read if picture is None]
        if not whole:
            raise InputError(f"task 'image-folder': {folder / name}: holds no picture among {len(files)} files")
        pictures += whole
        labels += [label] * len(whole)
    _tell(folder, broken, len(pictures) + len(broken))
    return _split(np.stack(pictures), np.array(labels, np.int64), tuple(classes), folder, augment)


def image_folder_source(data: str | None = None, **_: object) -> Source:
    """What :func:`image_folder` reads."""
    return Source("1", (_folder(data),))


def _split(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], folder: Path, augment: str) -> Task:
    try:
        val, test, train = stratified_split(
            y, sample_hashes(x), [round(len(y) * VAL_SHARE), round(len(y) * TEST_SHARE)]
        )
    except InputError as error:
        raise InputError(f"task 'image-folder': {folder}: {error}; labels are {', '.join(classes)}") from None
    splits = {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": (x[test], y[test])}
    return assemble("image-folder", splits, classes, augment=augment, citation=f"the user's pictures, {folder.name}")


def _folder(data: str | None) -> Path:
    if data is None:
        raise InputError("task 'image-folder': task.data is missing: name a folder that has a folder for each class")
    folder = user_path(data)
    if not folder.is_dir():
        raise InputError(f"task 'image-folder': task.data = {data!r}: is not a folder")
    return folder


def _files(folder: Path) -> list[Path]:
    """Files in the class folder and below that are pictures by their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _picture(path: Path, size: int, colour: str) -> np.ndarray | None:
    """uint8 ``(channels, size, size)``, or None for a file that is no whole picture."""
    mode, channels = COLOURS[colour]
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore")
            upright = _eight_bits(ImageOps.exif_transpose(opened)).convert(mode)
            fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, Image.DecompressionBombError):
        return None
    return np.asarray(fitted, np.uint8).reshape(size, size, channels).transpose(2, 0, 1).copy()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pictures of 16-bit whole numbers, or of floats in 0..1, as 8-bit grey: Pillow alone would cut them off."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
    if picture.mode == "F":
        values = np.asarray(picture)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError("floats outside 0..1")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    return picture


def _tell(folder: Path, broken: Sequence[Path], count: int) -> None:
    if broken:
        names = ", ".join(str(path.relative_to(folder)) for path in broken[:SHOWN])
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        print(
            f"image-folder: left out {len(broken)} of {count} files, no whole pictures: {names}{more}", file=sys.stderr
        )
