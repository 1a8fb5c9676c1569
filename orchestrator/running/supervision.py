"""The driver's side of supervision: reports progress to the supervisor, and ends with it.

The two share a socket whose number is in the environment. A byte for each finished trial reports progress; a last byte,
an intended exit. End of file tells the driver that the supervisor is gone.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

LINK = "MCUSWEEP_SUPERVISOR"
PROGRESS, ENDED = b".", b"E"
GO_ON_STATUS = 75  # of a driver whose executor is gone: worth another (EX_TEMPFAIL of sysexits.h)
_ORPHANED_STATUS = 70


_link: socket.socket | None = None
_again = False


def attach() -> None:
    """Connect to the supervisor, if it started this process; child processes do not inherit the connection."""
    global _link, _again
    number, parent, again = (*os.environ.pop(LINK, "").split(":"), "", "", "")[:3]
    if parent != str(os.getppid()):  # nobody's, or somebody set it by hand
        return
    with suppress(OSError, ValueError):
        _link, _again = socket.socket(fileno=int(number)), bool(again)
        threading.Thread(target=_leave_with, args=(_link,), daemon=True).start()


def link_to(link: socket.socket, *, again: bool = False) -> dict[str, str]:
    """The environment variable with which a child process finds its end of the connection.

    Args:
        again: whether one before it lost what it worked with.
    """
    return {LINK: f"{link.fileno()}:{os.getpid()}:{'again' if again else ''}"}


def _leave_with(link: socket.socket) -> None:
    """End this process as soon as its supervisor is gone, however that died: the database is right at any instant."""
    with suppress(OSError):
        link.recv(1)
    os._exit(_ORPHANED_STATUS)


def supervised() -> bool:
    """Whether a supervisor started this process."""
    return _link is not None


def reentered() -> bool:
    """Whether an earlier driver of the same command lost its executor."""
    return _again


def tell_progress() -> None:
    """Report that a trial has a result."""
    _tell(PROGRESS)


def tell_end() -> None:
    """Report an intended exit (done, refused or interrupted): the process is not restarted."""
    _tell(ENDED)


def _tell(word: bytes) -> None:
    if _link is not None:
        with suppress(OSError):
            _link.send(word)
