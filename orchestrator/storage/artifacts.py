"""Files of trials: location and integrity."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mcu.errors import InputError


def read_artifact(root: Path, path: str, sha256: str, label: str) -> bytes:
    """A file of a trial, checked against the hash in the database.

    Args:
        root: folder of the files that belong to the database.
        path: of the file, relative to it.
        sha256: hexadecimal digest of its content.
        label: name of the trial in messages.

    Raises:
        InputError: if the file lies outside the folder, or is missing or damaged.
    """
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise InputError(f"{label}: {path!r} lies outside {root}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{label}: {file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{label}: {file} is damaged: its SHA-256 is not the one in the database")
    return data
