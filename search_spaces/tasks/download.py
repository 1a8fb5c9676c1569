"""Download of public data sets from their authors' sites: resumable, checked, unpacked.

Nothing is downloaded unless requested (``mcusweep tasks --download TASK``).
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcu.errors import InputError
from search_spaces.tasks.store import cache_folder, placed_cache

CHUNK = 2**18
TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Connections in a row that may bring nothing new."""

Progress = Callable[[str, int, int | None], None]
"""Told a file's name, how many of its bytes are here, and how many there are where the server says so."""


@dataclass(frozen=True)
class Remote:
    """A file on the network; ``checksum`` is ``md5:HEX`` or ``sha256:HEX``, empty if the content is checked instead."""

    url: str
    checksum: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Published:
    """A data set as published.

    Attributes:
        files: what to fetch.
        size: approximate size, for display.
        unpacked: suffix of the files extracted from the archive; empty for files used as they are.
        contents: SHA-256 over the names and contents of the unpacked files, see :func:`contents_digest`.
    """

    files: tuple[Remote, ...]
    size: str
    unpacked: tuple[str, ...] = ()
    contents: str = ""


_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
PUBLISHED = {
    "fashion-mnist": Published(
        (
            Remote(f"{_FASHION}/train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            Remote(f"{_FASHION}/train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe"),
            Remote(f"{_FASHION}/t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79"),
            Remote(f"{_FASHION}/t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        "30 MB",
    ),
    "cifar10": Published(
        (
            Remote(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
            ),
        ),
        "170 MB",
    ),
    "keywords": Published(
        (
            Remote(
                "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
                "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            ),
        ),
        "2.4 GB",
        (".wav", ".txt"),
    ),
    "spoken-digits": Published(
        (Remote("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aa.tar.gz"),),
        "16 MB",
        (".wav",),
        "a2e8a660492f28d9eed6270b290d26cbc5c81d6077ce87d3c0ad5adf4d4ee696",
    ),
}
"""Checksums as torchvision, torchaudio and TensorFlow Datasets publish them. GitHub's archives are not stable."""


def downloaded(task: str) -> Path:
    """Folder of a task's download, existing or not."""
    return cache_folder() / "downloads" / task


def download(task: str, progress: Progress) -> Path:
    """Download a task's data, resuming an interrupted download; returns the folder.

    Raises:
        InputError: for a task without a download, and for an error of network, disk or checksum.
    """
    if task not in PUBLISHED:
        raise InputError(f"--download {task!r}: can be downloaded are {', '.join(PUBLISHED)}")
    placed_cache()
    published, folder = PUBLISHED[task], downloaded(task)
    if published.unpacked and folder.is_dir():
        return folder
    place = folder.with_name(f"{task}.archive") if published.unpacked else folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        for remote in published.files:
            fetch(remote, place / remote.name, progress)
        if published.unpacked:
            _unpack(place / published.files[0].name, folder, published)
            shutil.rmtree(place)
    except OSError as error:
        reason = "no space left on the disk" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise InputError(f"--download {task}: {error.filename or place}: {reason}; what is there is kept") from None
    return folder


def fetch(remote: Remote, target: Path, progress: Progress) -> None:
    """Download one file, resuming from ``NAME.part``; it is renamed to ``NAME`` once its checksum is correct.

    Raises:
        InputError: when the server cannot be reached, keeps failing, or sends other content.
        OSError: when the file cannot be written.
    """
    if target.is_file() and _is_right(remote, target):
        return
    part = target.with_name(f"{target.name}.part")
    resumed = part.is_file() and part.stat().st_size > 0
    _fill(remote, part, progress)
    if not _is_right(remote, part) and resumed:  # the beginning may be another version's
        part.unlink()
        _fill(remote, part, progress)
    if not _is_right(remote, part):
        kind = remote.checksum.partition(":")[0]
        found = _hex(part, kind)
        part.unlink()
        wanted = remote.checksum.partition(":")[2]
        raise InputError(f"{remote.url}: has {kind.upper()} {found}, the published file has {wanted}: not kept")
    part.replace(target)


def _fill(remote: Remote, part: Path, progress: Progress) -> None:
    """Append to ``part`` until the server has no more; connections that break are opened again."""
    idle, whole = 0, False
    while not whole:
        before = part.stat().st_size if part.is_file() else 0
        try:
            whole = _receive(remote, part, before, progress)
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # nothing behind what is here
                return
            raise InputError(f"{remote.url}: the server answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise InputError(
                f"{remote.url}: cannot be reached: {error.reason}; on a machine without network put the data in a "
                "folder and name it with --set task.data=DIR"
            ) from None
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        here = part.stat().st_size if part.is_file() else 0
        idle = 0 if here > before else idle + 1
        if not whole and idle >= ATTEMPTS:
            raise InputError(
                f"{remote.url}: broke off at {here:,} bytes ({reason}): the same command resumes from there"
            )


def _receive(remote: Remote, part: Path, start: int, progress: Progress) -> bool:
    """One connection; whether the file is whole."""
    headers = {"User-Agent": "mcusweep", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(remote.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        here = start if goes_on else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        with part.open("ab" if goes_on else "wb") as file:
            while content := response.read1(CHUNK):
                file.write(content)
                here += len(content)
                progress(remote.name, here, total)
    return total is None or here >= total


def _is_right(remote: Remote, path: Path) -> bool:
    kind, _, wanted = remote.checksum.partition(":")
    return not wanted or _hex(path, kind) == wanted


def _hex(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def contents_digest(folder: Path) -> str:
    """SHA-256 over the names and the SHA-256 of all files of a folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(_hex(path, "sha256")))
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path, published: Published) -> None:
    """Take the wanted files out of a .tar.gz; the folder appears whole or not at all.

    Links, devices and paths that lead out of the folder are refused. Where the contents are checked, the files lie
    in one folder; elsewhere they keep theirs.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        stage = Path(scratch) / "whole"
        stage.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(published.unpacked):
                        name = Path(member.name).name if published.contents else member.name
                        tar.extract(member.replace(name=name), stage, filter="data")
        except (tarfile.TarError, EOFError, ValueError) as error:
            archive.unlink()
            raise InputError(f"{archive}: is not the published archive: {error}: not kept") from None
        if published.contents and contents_digest(stage) != published.contents:
            archive.unlink()
            raise InputError(f"{archive}: its files are not the published ones: not kept")
        stage.replace(folder)
