"""Location in a user's network and source code, so that every error message names it."""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import torch

from mcu.errors import InputError

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Place:
    """A layer or a call in a network.

    Attributes:
        path: of the module, as in ``named_modules``, and of the call in it.
        file, line: of the user's source; empty and 0 where it is not known.
    """

    path: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"network layer '{self.path}'" + (f" ({Path(self.file).name}:{self.line})" if self.file else "")


def is_within(path: str, paths: Iterable[str]) -> bool:
    """Whether a layer is one of these, or inside one."""
    return any(path == each or path.startswith(f"{each}.") for each in paths)


def refuse(place: Place, what: str, instead: str = "") -> NoReturn:
    """Refuse a network: where, what is wrong, and what to write instead.

    Raises:
        InputError: always.
    """
    raise InputError(f"{place}: {what}" + (f"; {instead}" if instead else ""))


def source_of(stack_trace: str | None) -> tuple[str, int]:
    """File and line of the innermost call that is not torch's own; ``("", 0)`` if there is none."""
    frames = [(file, int(line)) for file, line in _FRAME.findall(stack_trace or "") if _is_users(file)]
    return frames[-1] if frames else ("", 0)


def raised_at(error: BaseException) -> tuple[str, int, str]:
    """File, line and text of the user's line in an error's traceback that ran last; empty where there is none."""
    found, trace = ("", 0), error.__traceback__
    while isinstance(trace, TracebackType):
        file = trace.tb_frame.f_code.co_filename
        if _is_users(file):
            found = file, trace.tb_lineno
        trace = trace.tb_next
    return (*found, linecache.getline(*found).strip()) if found[0] else ("", 0, "")


def _is_users(file: str) -> bool:
    return not file.startswith((_TORCH, _OURS, "<"))


def place_of(node: Any) -> Place:
    """The place stored with a node of a canonical network."""
    place = node.meta.get("place")
    return place if isinstance(place, Place) else Place(str(node.target) if node.op == "call_module" else node.name)
