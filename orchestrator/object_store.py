"""Files in an object store, or on any server that fsspec knows: read, written, listed and deleted by path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mcu.errors import InputError
from orchestrator.failures import RunFailed

FIRST_WAIT = 0.5
Answer = TypeVar("Answer")


class ObjectStoreError(RunFailed):
    """An object store failed repeatedly; the message is one line that names it."""


@dataclass(frozen=True)
class ObjectStore:
    """A folder of an object store by its URL; paths are relative to it.

    Attributes:
        tries: how often an action is tried, with waits that double.
        wait: called with the seconds between two tries.
    """

    url: str
    tries: int = 2
    wait: Callable[[float], None] = field(default=time.sleep, compare=False)

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where there is none.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """

        def read(system: Any, root: str) -> bytes | None:
            try:
                return bytes(system.cat_file(f"{root}/{path}"))
            except FileNotFoundError:
                return None

        return self._tried("read", read)

    def write(self, files: dict[str, Path | bytes]) -> None:
        """Write files by path, each from a local file or from bytes.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """

        def write(system: Any, root: str) -> None:
            for folder in sorted({PurePosixPath(root, path).parent.as_posix() for path in files}):
                system.makedirs(folder, exist_ok=True)
            for path, content in files.items():
                data = content if isinstance(content, bytes) else content.read_bytes()
                system.pipe_file(f"{root}/{path}", data)

        if files:
            self._tried("written", write)

    def names(self) -> list[str]:
        """The path of every file.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """

        def find(system: Any, root: str) -> list[str]:
            if not system.exists(root):
                return []
            start = f"{system._strip_protocol(root)}/"
            return sorted(str(name).removeprefix(start) for name in system.find(root))

        return self._tried("listed", find)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """

        def remove(system: Any, root: str) -> None:
            for path in paths:
                system.rm_file(f"{root}/{path}")

        if paths:
            self._tried("changed", remove)

    def _tried(self, what: str, action: Callable[[Any, str], Answer]) -> Answer:
        """Call an action with the file system and the folder's path in it, again where that fails."""
        failures = 0
        while True:
            try:
                with self._opened() as (system, root):
                    return action(system, root)
            except (InputError, ObjectStoreError):
                raise
            except Exception as error:  # each file system raises errors of its own
                failures += 1
                if failures >= self.tries:
                    raise ObjectStoreError(f"{self.url} cannot be {what}: {_line(error)}") from error
            self.wait(FIRST_WAIT * 2 ** (failures - 1))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, str]]:
        try:
            import fsspec

            system, root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(f"{self.url}: {_line(error)}; pip install 'mcusweep[remote]'") from None
        try:
            yield system, root.rstrip("/")
        except PermissionError as error:
            raise ObjectStoreError(f"{self.url}: {_line(error)}; check the credentials") from error
        except Exception:
            system.clear_instance_cache()  # the next try connects anew
            raise


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
