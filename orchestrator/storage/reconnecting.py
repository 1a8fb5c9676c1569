"""Retries while a database server is unreachable, with exponential back-off, for a limited time."""

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
    """Limits for waiting for a server.

    Attributes:
        seconds: total waiting time.
        first_wait, longest_wait: seconds between two attempts; doubled each time.
        tell: called with one line when the waiting starts, and one when it ends.
    """

    seconds: float = 60.0
    first_wait: float = 0.1
    longest_wait: float = 5.0
    tell: Callable[[str], None] = _nobody


class Patient(Protocol):
    """An object whose methods can be repeated."""

    patience: Patience

    def reconnected(self) -> None:
        """Reload the state that the next attempt depends on."""


Self = TypeVar("Self", bound=Patient)
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def reconnecting(method: Callable[Concatenate[Self, Given], Answer]) -> Callable[Concatenate[Self, Given], Answer]:
    """Repeat a method after a lost connection. It must be a single transaction, which is rolled back on a loss.

    Raises:
        StoreError: the server stayed unreachable.
    """

    @wraps(method)
    def patient(self: Self, *given: Given.args, **named: Given.kwargs) -> Answer:
        try:
            return method(self, *given, **named)
        except ConnectionCut as error:
            first = error
        patience = self.patience
        patience.tell(f"{first}; retrying for {patience.seconds:.0f} s")
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
        raise StoreError(f"{first}; retried for {patience.seconds:.0f} s") from first

    return patient
