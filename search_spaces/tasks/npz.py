"""Arrays by name from .npz and .npy files; large ones are memory-mapped."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mcu.errors import InputError
from mcu.files import write_atomic
from search_spaces.tasks.digest import content_digest, digest_of
from search_spaces.tasks.store import LARGE, cache_folder
from search_spaces.tasks.walk import is_hidden

CHUNK = 4 * 2**20
LOCAL_HEADER = 30
PROBLEMS = (OSError, EOFError, ValueError, KeyError, struct.error, zlib.error, zipfile.BadZipFile, NotImplementedError)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, those of a folder of .npy files by file name, or one .npy as ``x``.

    Arrays over 64 MB are memory-mapped: from the file itself if it is not compressed, else from an unpacked copy in the
    cache folder. Python objects are never unpickled.

    Raises:
        InputError: when a file has another format, or is damaged.
    """
    if path.is_dir():
        return {file.stem: _npy(file) for file in sorted(path.glob("*.npy")) if file.is_file()}
    if path.suffix == ".npy":
        return {"x": _npy(path)}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not _is_debris(member)]
            return {member.filename.removesuffix(".npy"): _array(path, archive, member) for member in members}
    except InputError:
        raise
    except PROBLEMS as error:
        raise InputError(f"{path}: is not a readable .npz: {error}") from None


def _is_debris(member: zipfile.ZipInfo) -> bool:
    """Whether an entry is a folder or what an operating system put into the archive."""
    return member.is_dir() or any(map(is_hidden, member.filename.split("/")))


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise InputError(f"{path}: holds {member.filename!r}, which is not a .npy array")
    try:
        return _member(path, archive, member)
    except PROBLEMS as error:
        raise InputError(
            f"{path}: {member.filename!r} is not a readable array without Python objects: {error}"
        ) from None


def _npy(path: Path) -> np.ndarray:
    try:
        large = path.stat().st_size > LARGE
        return np.load(path, mmap_mode="c" if large else None, allow_pickle=False)
    except PROBLEMS as error:
        raise InputError(f"{path}: is not a readable .npy without Python objects: {error}") from None


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.file_size <= LARGE:
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    if member.compress_type == zipfile.ZIP_STORED:
        return _mapped_member(path, member)
    unpacked = cache_folder() / "unpacked" / f"{digest_of(content_digest(path), member.filename)}.npy"
    if not unpacked.is_file():
        with archive.open(member) as stream:
            write_atomic(unpacked, iter(lambda: stream.read(CHUNK), b""))
    return np.load(unpacked, mmap_mode="c", allow_pickle=False)


def _mapped_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Map an array that lies in the archive as it is; its checksum is verified first."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(LOCAL_HEADER)
        name, extra = struct.unpack("<HH", header[26:30])
        start = member.header_offset + LOCAL_HEADER + name + extra
        if header[:4] != b"PK\x03\x04" or _checksum(file, start, member.file_size) != member.CRC:
            raise zipfile.BadZipFile(f"{member.filename} is damaged")
        file.seek(start)
        shape, fortran, dtype = _read_header(file)
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, "c", file.tell(), shape, order)  # type: ignore[call-overload]


def _checksum(file: BinaryIO, start: int, size: int) -> int:
    file.seek(start)
    crc = 0
    for content in _parts(file, size):
        crc = zlib.crc32(content, crc)
    return crc


def _parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (content := file.read(min(CHUNK, size))):
        size -= len(content)
        yield content


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
