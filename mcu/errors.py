"""The one exception for bad input."""

from __future__ import annotations

from numbers import Integral
from typing import Any


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that names what was given, where, and what is allowed. The command line
    prints it to stderr and exits with status 2; library users catch it like any ``ValueError``.
    """


def require_whole(name: str, number: Any, least: int) -> int:
    """The number, if it is a whole one of 64 bits that is not below the least.

    Raises:
        InputError: naming it and what is allowed.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or not least <= int(number) < 2**63:
        raise InputError(f"{name} = {number!r}: allowed is a whole number, {least} to 2**63 - 1")
    return int(number)
