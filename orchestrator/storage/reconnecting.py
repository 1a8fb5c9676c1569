"""A database server that is away for a while: tried again, with longer and longer waits, for a stated time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from orchestrator.storage.connection import ConnectionCut, StoreError


def _nobody(text: str) -> None:
    """Tells nobody."""


@dataclass
class Patience:
    """How long a server may be away.

    Attributes:
        seconds: in all, until it is given up.
        first_wait, longest_wait: seconds between two tries; doubled each time.
        tell: is given one line when the waiting begins, and one when it ends.
    """

    seconds: float = 60.0
    first_wait: float = 0.1
    longest_wait: float = 5.0
    tell: Callable[[str], None] = _nobody


class Patient(Protocol):
    """Whose methods can be repeated."""

    patience: Patience

    def reconnected(self) -> None:
        """Read again what the next try depends on."""


Self = TypeVar("Self", bound=Patient)
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def reconnecting(method: Callable[Concatenate[Self, Given], Answer]) -> Callable[Concatenate[Self, Given], Answer]:
    """Repeat a method whose connection was cut. It must be one transaction: a cut one leaves nothing behind.

    Raises:
        StoreError: the server stayed away.
    """

    @wraps(method)
    def patient(self: Self, *given: Given.args, **named: Given.kwargs) -> Answer:
        try:
            return method(self, *given, **named)
        except ConnectionCut as error:
            first = error
        patience = self.patience
        patience.tell(f"{first}; trying again for {patience.seconds:.0f} s")
        wait, deadline = patience.first_wait, time.monotonic() + patience.seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(wait, left))
            wait = min(2 * wait, patience.longest_wait)
            try:
                self.reconnected()
                answer = method(self, *given, **named)
            except ConnectionCut:
                continue
            patience.tell("connected again")
            return answer
        raise StoreError(f"{first}; tried again for {patience.seconds:.0f} s") from first

    return patient
