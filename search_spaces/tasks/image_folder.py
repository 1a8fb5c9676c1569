"""Images in one folder per class, of any size and format that Pillow reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from mcu.errors import InputError
from search_spaces.tasks.class_folders import (
    ClassFolders,
    LeftOut,
    UnusableFileError,
    check_share,
    class_folders,
    given_folder,
    placed_splits,
    read_samples,
    split_three_ways,
)
from search_spaces.tasks.digest import Source
from search_spaces.tasks.rows import Rows
from search_spaces.tasks.splits import sample_hashes
from search_spaces.tasks.task import Task, assemble

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"}
)
"""Of files that are broken when they hold no image; what lies in others decides their content."""
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""Those of Pillow that are images of points and begin with a mark of their own."""
COLOURS = {"rgb": ("RGB", 3), "grey": ("L", 1)}
DEPTHS = (8, 10, 12, 14, 16)
"""Bits of sensors; 16-bit files hold any of them."""


def image_folder(
    data: str | None = None,
    size: int = 32,
    colour: str = "rgb",
    augment: str = "shift_flip",
    background: str = "white",
    most_broken: float = 0.1,
    split_size: int | None = None,
) -> Task:
    """Images of ``data``/CLASS/, rotated by their EXIF data, centre-cropped to a square, resized.

    ``train/``, ``val/`` and ``test/``, where there are no other folders, are the splits; without ``val/`` it is taken
    from ``train/``. Otherwise 70 % train, 15 % validation, 15 % test, by the hash of the pixels: equal images are never
    in two splits. The file format is detected from the content, not the suffix. Transparent images are composited on
    ``background``. 16-bit grey images are scaled to 8 bits, all by the smallest of 8, 10, 12, 14 and 16 bits that holds
    the largest value of the set. Skipped files are counted and named.

    Args:
        data: the folder of class folders; others in them are searched too, names that begin with a dot are not.
        size: pixels of a side.
        colour: ``rgb`` or ``grey``.
        augment: data augmentation of training batches.
        background: colour behind transparent images: a name such as ``white``, or ``#rrggbb``.
        most_broken: largest fraction of broken files that is skipped; more is an error.
        split_size: pixels of a side at which images are told apart and put into splits; ``size`` when absent.

    Raises:
        InputError: for no or one class, a class without images, or a bad option.
    """
    sizes = (size, split_size or size)
    behind = _checked(sizes, colour, background, most_broken)
    folders = class_folders("image-folder", given_folder("image-folder", data))
    left_out = LeftOut("image-folder", folders.folder, "images")
    Image.init()
    read = read_samples(folders, lambda path: _image(path, sizes, behind), left_out)
    left_out.check(most_broken)
    images, told_apart = zip(*read.values, strict=True)
    x, notes = _scaled(images, colour)
    _check_different(x, read.y, folders, size)
    hashes = sample_hashes(x if sizes[0] == sizes[1] else _scaled(told_apart, colour)[0])
    try:
        places = split_three_ways(read.y, hashes, read.told)
    except InputError as error:
        raise InputError(f"task 'image-folder': {folders.folder}: {error}; in {_named(folders.classes)}") from None
    laid = sum(image.transparent for image in images)
    if laid:
        notes.append(f"{laid} transparent images lie on {background} (options.background)")
    if folders.splits:
        notes.append(f"its folders {', '.join(folders.splits)} are the splits")
    return assemble(
        "image-folder",
        placed_splits(Rows(x), read.y, places),
        folders.classes,
        hashes={split: hashes[index] for split, index in places.items()},
        augment=augment,
        citation=f"the user's images, {folders.folder.name}",
        notes=(*left_out.notes(), *notes),
    )


def image_folder_source(data: str | None = None, **_: object) -> Source:
    """What :func:`image_folder` reads."""
    return Source("2", (given_folder("image-folder", data),))


@dataclass(frozen=True)
class FittedImage:
    """An image after reading and resizing.

    Attributes:
        pixels: uint8 ``(size, size, 3)``, or float32 ``(size, size)`` of a 16-bit grey image, in its own units.
        largest: largest value of a 16-bit grey image before scaling; else 0.
    """

    pixels: np.ndarray
    largest: int = 0
    transparent: bool = False


def _checked(sizes: Sequence[int], colour: str, background: str, most_broken: float) -> tuple[int, ...]:
    if colour not in COLOURS:
        raise InputError(f"task 'image-folder': colour = {colour!r}: must be one of {', '.join(COLOURS)}")
    for name, size in zip(("size", "split_size"), sizes, strict=True):
        if isinstance(size, bool) or not isinstance(size, int) or not 4 <= size <= 1024:
            raise InputError(f"task 'image-folder': {name} = {size!r}: must be 4 to 1024 pixels")
    check_share("image-folder", most_broken)
    try:
        return ImageColor.getcolor(str(background), "RGB")  # type: ignore[return-value]
    except ValueError:
        raise InputError(
            f"task 'image-folder': background = {background!r}: must be a colour such as white or #ffffff"
        ) from None


def _image(path: Path, sizes: Sequence[int], behind: tuple[int, ...]) -> tuple[FittedImage, ...]:
    """The image in a file, cut, and scaled to each size.

    Raises:
        UnusableFileError: saying what the file is instead.
    """
    formats = [name for name in FORMATS if name in Image.OPEN]
    suffix = path.suffix.lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats) as opened:
                upright = ImageOps.exif_transpose(opened)
                made = {size: _fitted(upright, size, behind) for size in set(sizes)}
                return tuple(made[size] for size in sizes)
    except UnidentifiedImageError:
        if suffix not in SUFFIXES:
            raise UnusableFileError(suffix or "without suffix", broken=False) from None
        kind = "broken"
    except Image.DecompressionBombError:
        kind = "too large"
    except PermissionError:
        kind = "not allowed to be read"
    except (OSError, ValueError, SyntaxError, TypeError, EOFError):
        kind = "broken"
    raise UnusableFileError(kind, broken=True)


def _fitted(image: Image.Image, size: int, behind: tuple[int, ...]) -> FittedImage:
    """Cut square, scaled, without transparency, of 8 bits but for grey ones of 16."""

    def fit(image: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))

    if image.mode.startswith("I"):
        values = np.asarray(image).clip(0, 65535).astype(np.float32)
        return FittedImage(fit(Image.fromarray(values)), int(values.max()))
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError("floats outside 0..1")
        return FittedImage(fit(Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")))
    if not image.has_transparency_data:
        return FittedImage(fit(image.convert("RGB")))
    layered = image.convert("RGBA")
    low, _ = layered.getchannel("A").getextrema()
    solid = Image.new("RGBA", layered.size, (*behind, 255))
    flat = Image.alpha_composite(solid, layered).convert("RGB")
    return FittedImage(fit(flat), transparent=bool(low < 255))  # type: ignore[operator]


def _scaled(images: Sequence[FittedImage], colour: str) -> tuple[np.ndarray, list[str]]:
    """All images as uint8 ``(n, channels, size, size)``; those of 16 bits scaled alike, and a line that says how."""
    mode, channels = COLOURS[colour]
    largest = max((image.largest for image in images), default=0)
    bits = next(bits for bits in DEPTHS if largest < 1 << bits)
    made = []
    for image in images:
        pixels = image.pixels
        if pixels.dtype != np.uint8:
            pixels = (pixels * (255 / ((1 << bits) - 1))).round().clip(0, 255).astype(np.uint8)
        flat = np.asarray(Image.fromarray(pixels).convert(mode))
        made.append(flat.reshape(*flat.shape[:2], channels).transpose(2, 0, 1))
    deep = sum(image.pixels.dtype != np.uint8 for image in images)
    notes = [f"{deep} images of 16 bits hold at most {largest:,}: scaled as {bits} bits"] if deep else []
    return np.stack(made), notes


def _check_different(x: np.ndarray, labels: np.ndarray, folders: ClassFolders, size: int) -> None:
    """Say of a class whose images are all alike what they look like; splits would only count them."""
    for label, name in enumerate(folders.classes):
        mine = x[labels == label]
        if len(mine) > 1 and (mine == mine[0]).all():
            alike = "of one colour" if (mine[0] == mine[0][:, :1, :1]).all() else "the same"
            raise InputError(
                f"task 'image-folder': {folders.folder}: all {len(mine)} images of {name!r} are {alike} at "
                f"{size} x {size} pixels without transparency"
            )


def _named(classes: Sequence[str]) -> str:
    return "labels " + ", ".join(f"{label} = {name}" for label, name in enumerate(classes))
