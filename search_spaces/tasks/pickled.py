"""Safe reader of pickled numpy arrays in data sets: it runs no code from the pickle."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from mcu.errors import InputError

ALLOWED = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""All that arrays, numbers and texts need; none of them runs code of the file's choosing."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which an array does not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(content: bytes, where: Path | str, encoding: str = "latin1") -> Any:
    """Lists, dictionaries, texts, numbers and numpy arrays from a pickle.

    Args:
        where: what the content came from, for errors.
        encoding: of texts written by Python 2; ``bytes`` keeps them as bytes.

    Raises:
        InputError: when it is damaged or refers to anything else, which is not imported.
    """
    try:
        return _ArraysOnly(io.BytesIO(content), encoding=encoding).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{where}: is not a pickle of arrays: {error}") from None
    except (ImportError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: is not a pickle of arrays: {error}") from None
