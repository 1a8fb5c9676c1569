"""The driver's side of its supervisor: tells it what went on, and leaves with it.

The two share a socket whose number is in the environment. A byte for each finished trial shows that the driver gets
on; a last one, that it ended by its own will. Its end of file tells the driver that the supervisor is gone.
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
    """Take up the link, if a supervisor started this process; it is not passed on to processes of this one."""
    global _link, _again
    number, parent, again = (*os.environ.pop(LINK, "").split(":"), "", "", "")[:3]
    if parent != str(os.getppid()):  # nobody's, or somebody set it by hand
        return
    with suppress(OSError, ValueError):
        _link, _again = socket.socket(fileno=int(number)), bool(again)
        threading.Thread(target=_leave_with, args=(_link,), daemon=True).start()


def link_to(link: socket.socket, *, again: bool = False) -> dict[str, str]:
    """The variable by which a process that this one starts takes up its end of the link.

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
    """Whether a driver before this one, of the same command, lost what it worked with."""
    return _again


def tell_progress() -> None:
    """A trial got its result."""
    _tell(PROGRESS)


def tell_end() -> None:
    """This process ends because it is done, refused or interrupted: it should not be started again."""
    _tell(ENDED)


def _tell(word: bytes) -> None:
    if _link is not None:
        with suppress(OSError):
            _link.send(word)
