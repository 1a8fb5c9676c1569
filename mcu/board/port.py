"""The serial line of a board, by pyserial (extra ``board``)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mcu.errors import InputError

BAUD = 115_200
POLL_SECONDS = 0.05
"""How long a read waits for the first byte."""


class Line(Protocol):
    """Both directions of a serial line."""

    def read(self) -> bytes:
        """What has arrived; empty after a short wait without anything."""

    def write(self, data: bytes) -> None:
        """Send bytes."""


def import_pyserial() -> Any:
    """The module ``serial``. Raises InputError, with what to install, if pyserial is absent."""
    try:
        import serial
    except ImportError:
        raise InputError("--port needs pyserial: pip install 'mcusweep[board]'") from None
    if not hasattr(serial, "serial_for_url"):  # another package has a module of this name
        raise InputError("--port needs pyserial, but the module `serial` is another package: uninstall that")
    return serial


@contextmanager
def open_port(name: str, baud: int = BAUD) -> Iterator[Line]:
    """Open a serial port for one process alone: ``/dev/ttyACM0``, ``COM3`` or ``socket://HOST:PORT``.

    Raises:
        InputError: pyserial or the port is absent, or the port is busy, may not be used, or is unplugged during use.
    """
    serial = import_pyserial()
    try:
        with serial.serial_for_url(name, baudrate=baud, timeout=POLL_SECONDS, exclusive=True) as port:
            yield _Port(port)
    except InputError:  # a ValueError too, but of the board: it says what is wrong
        raise
    except (serial.SerialException, OSError, ValueError) as error:
        raise InputError(f"--port {name}: {_reason(name, error)}") from None


class _Port:
    def __init__(self, port: Any) -> None:
        self._port = port

    def read(self) -> bytes:
        data: bytes = self._port.read(1)
        return data + self._port.read(self._port.in_waiting) if data else data

    def write(self, data: bytes) -> None:
        self._port.write(data)
        self._port.flush()


def _reason(name: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        there = ", ".join(_ports()) or "none"
        return f"there is no such port; serial ports here: {there}"
    if code == errno.EACCES:
        return "access is denied; on Linux your user must be in the group that owns it (often dialout)"
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return "another program uses it: close its serial monitor"
    return f"the line failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _ports() -> list[str]:
    from serial.tools.list_ports import comports

    return sorted(found.device for found in comports())
