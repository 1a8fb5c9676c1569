"""Transfer of an attempt's files between the driver, which stores them, and a worker, whose disk is a cache.

Only messages are exchanged. An attempt receives its inputs: its checkpoint, the networks of its ancestors, and shared
dense networks. It sends back the files it writes, complete and with their hash, and the driver stores each in the
artifact folder before it records the result.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.spec import FILES, NETWORK, TrialSpec
from orchestrator.worker.identity import shared_parents

SEND_SECONDS = 10.0
"""Between two times that an attempt sends its checkpoint; what it leaves in the end goes at once."""

_KEPT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Parcel:
    """A file in transfer: its path in the artifact folder, hash and bytes; None for a deleted file."""

    path: str
    sha256: str
    data: bytes | None


@dataclass(frozen=True)
class TrialFolders:
    """The folders of a trial in an artifact folder.

    Attributes:
        own: its files and checkpoint.
        shared: dense networks that jobs of the same data, network and seed share; None where nothing is shared.
        networks: files of the trained networks that it begins with.
    """

    own: str
    shared: str | None
    networks: tuple[str, ...]

    @classmethod
    def of(cls, spec: TrialSpec) -> TrialFolders:
        """The folders of a trial."""
        ancestors = (name for name in (spec.ancestor, spec.parent) if name)
        return cls(spec.hash(), shared_parents(spec), tuple(f"{name}/{FILES[NETWORK]}" for name in ancestors))

    def written(self, root: Path) -> Iterator[Path]:
        """Files in the folders that the trial writes to; manifests after the files they list."""
        for name in filter(None, (self.own, self.shared)):
            files = [path for path in (root / name).rglob("*") if path.is_file()] if (root / name).is_dir() else []
            yield from sorted(
                (path for path in files if path.name != "lock" and not path.name.startswith(".")),
                key=lambda path: (path.suffix == ".json", path),
            )

    def admits(self, path: str) -> bool:
        """Whether a trial may write a file of that path."""
        parts = PurePosixPath(path).parts
        inside = ".." not in parts and not PurePosixPath(path).is_absolute() and "\0" not in path
        return inside and any(path.startswith(f"{name}/") for name in filter(None, (self.own, self.shared)))


def provisions(root: Path, spec: TrialSpec) -> list[str]:
    """Paths of an attempt's input files in the driver's artifact folder."""
    folders = TrialFolders.of(spec)
    there = [path.relative_to(root).as_posix() for path in folders.written(root)]
    return [*there, *(path for path in folders.networks if (root / path).is_file())]


def accept(root: Path, spec: TrialSpec, parcel: Parcel) -> None:
    """Store a file received from an attempt.

    Raises:
        InputError: the trial may not write it, or its hash does not match.
        OSError: it cannot be written.
    """
    if not TrialFolders.of(spec).admits(parcel.path):
        raise InputError(f"a worker sent {parcel.path!r}, which its trial may not write")
    target = root / parcel.path
    if parcel.data is None:
        target.unlink(missing_ok=True)
    elif hashlib.sha256(parcel.data).hexdigest() != parcel.sha256:
        raise InputError(f"a worker sent {parcel.path!r}, which was damaged on the way")
    else:
        write_atomic(target, parcel.data)


def arrived(root: Path, notes: Mapping[str, str]) -> bool:
    """Whether the driver has these files (hash by path), undamaged."""
    return all(_hash(root / path) == sha256 for path, sha256 in notes.items())


def _hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def cache_root(name: str) -> Path:
    """This worker's cache folder for a database, writable only by its user.

    Raises:
        OSError: it cannot be created, or belongs to another user.
    """
    root = Path(tempfile.gettempdir()) / f"mcusweep-{os.getuid() if hasattr(os, 'getuid') else 0}"
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022 or root.is_symlink()):
        raise PermissionError(f"{root} can be written by others")
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS and old.name != name:
            shutil.rmtree(old, ignore_errors=True)
    (root / name).mkdir(mode=0o700, exist_ok=True)
    os.utime(root / name)
    return root / name


class Luggage:
    """A worker's side of one attempt: unpacks received files, and finds files to send back.

    Args:
        root: local replacement of the artifact folder.
        sent: hash by path of every file that the driver has.
        fetch: returns the bytes of one of them.
    """

    def __init__(
        self, root: Path, spec: TrialSpec, sent: Mapping[str, str], fetch: Callable[[str], bytes], clock: Clock
    ) -> None:
        self._root, self._folders, self._clock = root, TrialFolders.of(spec), clock
        self._there: dict[str, tuple[int, int]] = {}
        self._next = 0.0
        shutil.rmtree(root / self._folders.own, ignore_errors=True)  # what the driver has leads
        for path, sha256 in sent.items():
            here = _hash(root / path)
            shared = self._folders.shared is not None and path.startswith(f"{self._folders.shared}/")
            if here == sha256 or (shared and here is not None):  # another job here may be at work on it
                continue
            data = fetch(path)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise OSError(f"{path} was damaged on its way to this worker")
            write_atomic(root / path, data)
        self._there = self._stamps()

    def _stamps(self) -> dict[str, tuple[int, int]]:
        stamps = {}
        for path in self._folders.written(self._root):
            try:
                status = path.stat()
            except OSError:  # another job of this worker replaced it
                continue
            stamps[path.relative_to(self._root).as_posix()] = (status.st_mtime_ns, status.st_size)
        return stamps

    def changes(self, *, all_now: bool = False) -> Iterator[Parcel]:
        """Files written or deleted since the last call; at intervals, or at once."""
        if not all_now and self._clock() < self._next:
            return
        self._next = self._clock() + SEND_SECONDS
        now = self._stamps()
        for path, stamp in now.items():
            if self._there.get(path) != stamp:
                try:
                    data = (self._root / path).read_bytes()
                except FileNotFoundError:  # another job of this worker replaced it
                    continue
                yield Parcel(path, hashlib.sha256(data).hexdigest(), data)
        for path in self._there.keys() - now.keys():
            yield Parcel(path, "", None)
        self._there = now

    def leave(self) -> None:
        """Delete the local files of the attempt, which the driver has."""
        shutil.rmtree(self._root / self._folders.own, ignore_errors=True)


Clock = Callable[[], float]
