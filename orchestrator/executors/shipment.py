"""Files that a sweep sends to cluster nodes besides our packages: Python files next to it, and files it names."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcu.errors import InputError
from mcu.units import format_bytes
from search_spaces.factories import local_path

MOST_BYTES = 200 * 2**20
"""Ray refuses more than 500 MiB, after it has packed them."""

REQUIREMENTS = "requirements.txt"
_NO_CODE = ("__pycache__", "node_modules", "site-packages")


@dataclass(frozen=True)
class Shipment:
    """Files by their path in the shipment, where the folder of number ``k`` among ``bases`` is called ``k``.

    Attributes:
        requirements: file of the packages that the modules need, if there is one beside them.
    """

    bases: tuple[str, ...]
    files: dict[str, Path]
    requirements: Path | None

    @classmethod
    def of(cls, bases: Sequence[str], ship: Sequence[str] = ()) -> Shipment:
        """The files of modules in these folders.

        Raises:
            InputError: a path in ``[workers] ship`` is missing, or the total size is too large.
        """
        files: dict[str, Path] = {}
        for number, base in enumerate(bases):
            folder = Path(local_path(base))
            for path in _modules(folder):
                files[f"{number}/{path.relative_to(folder).as_posix()}"] = path
            for name in ship:
                for path in _named(folder, name):
                    files[f"{number}/{path.relative_to(folder).as_posix()}"] = path
        needed = (Path(local_path(base)) / REQUIREMENTS for base in bases)
        shipment = cls(tuple(bases), files, next((path for path in needed if path.is_file()), None))
        if shipment.bytes > MOST_BYTES:
            largest = sorted(files.values(), key=lambda path: -path.stat().st_size)[:3]
            shown = ", ".join(f"{path} ({format_bytes(path.stat().st_size)})" for path in largest)
            raise InputError(
                f"[workers]: what goes to the nodes has {format_bytes(shipment.bytes)}, allowed are "
                f"{format_bytes(MOST_BYTES)}; the largest are {shown}; give the sweep a folder of its own, or ship less"
            )
        return shipment

    @property
    def bytes(self) -> int:
        """Total size of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def __str__(self) -> str:
        more = f", and the packages of {self.requirements}" if self.requirements else ""
        folders = ", ".join(map(local_path, self.bases))
        return f"{len(self.files)} files of {folders} ({format_bytes(self.bytes)}) go to the nodes{more}"

    def pack(self) -> tempfile.TemporaryDirectory[str]:
        """A folder with the packed files."""
        folder = tempfile.TemporaryDirectory(prefix="mcusweep-shipment-", ignore_cleanup_errors=True)
        for name, source in self.files.items():
            target = Path(folder.name) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return folder


def unpacked(bases: Sequence[str], folder: Path) -> dict[str, str]:
    """Local paths of the module folders on a node with an unpacked shipment."""
    return {base: str(folder / str(number)) for number, base in enumerate(bases)}


def _modules(folder: Path) -> Iterator[Path]:
    """The Python files of a folder, without hidden folders and environments."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _NO_CODE and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names) if name.endswith(".py") and (here / name).is_file())


def _named(folder: Path, name: str) -> list[Path]:
    """The files that an entry of ``[workers] ship`` means."""
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"[workers] ship = {name!r}: lies outside {folder}, the sweep's folder")
    if not place.exists():
        raise InputError(f"[workers] ship = {name!r}: there is no such file or folder in {folder}")
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
