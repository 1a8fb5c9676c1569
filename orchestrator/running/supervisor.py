"""The parent process of a driver: restarts it after an unexpected death, such as the loss of Ray's head node.

A driver may be killed by the system when memory is short, by a crash in a native library, or by Ray, which ends a
process that lost its head node. Every step of the driver can be repeated safely, so the same command continues. Signals
reach the driver only through the supervisor, because it runs in a separate session.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from orchestrator.running.supervision import ENDED, GO_ON_STATUS, PROGRESS, link_to
from orchestrator.storage.address import STORAGE_VARIABLE, without_password

COMMANDS = ("launch", "resume", "confirm")
MOST_REENTRIES = 5
"""In a row, with no trial finished between them."""

_WAIT_SECONDS = 1.0
_FAILED, _INTERRUPTED = 1, 130


class Supervisor:
    """Runs one command until it exits intentionally.

    Args:
        command: the program and its arguments.
        shown: the command as the user wrote it, for messages.
        most_reentries: maximum restarts in a row without progress.
    """

    def __init__(self, command: Sequence[str], shown: str, most_reentries: int = MOST_REENTRIES) -> None:
        self._command, self._shown, self._most = list(command), shown, most_reentries
        self._child: subprocess.Popen[bytes] | None = None
        self._signals = 0

    def run(self) -> int:
        """Returns the exit status of the command."""
        previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, self._forward)
        try:
            return self._until_it_ends()
        finally:
            for known, handler in previous.items():
                signal.signal(known, handler)

    def _until_it_ends(self) -> int:
        fruitless, again = 0, False
        while True:
            status, progress, ended = self._once(again)
            again = True
            if ended:
                return status
            if self._signals:
                _say("interrupted; results so far are kept; continue with: " + self._shown)
                return _INTERRUPTED
            fruitless = 1 if progress else fruitless + 1
            what = _how_it_ended(status)
            if fruitless > self._most:
                _say(f"{what}, {self._most} times in a row with no trial finished: giving up")
                _say("results so far are kept; continue with: " + self._shown)
                return _FAILED
            _say(f"{what}; restarting ({fruitless} of at most {self._most} times without a finished trial)")
            time.sleep(_WAIT_SECONDS)

    def _once(self, again: bool) -> tuple[int, bool, bool]:
        """Start the command and wait for it: exit status, whether a trial finished, whether it ended by its will."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                environment = os.environ | link_to(theirs, again=again)
                child = subprocess.Popen(
                    self._command, env=environment, pass_fds=[theirs.fileno()], start_new_session=True
                )
            self._child = child
            ours.setblocking(False)
            words = b""
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.5)
                words += _heard(ours)
            words += _heard(ours)  # its last word may have come just before its end
            self._child = None
        return child.returncode, PROGRESS in words, ENDED in words

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        child = self._child
        if child is not None:
            child.send_signal(signal.SIGKILL if self._signals > 2 else number)


def _heard(link: socket.socket) -> bytes:
    heard = b""
    with suppress(OSError):  # nothing more now, or the other side is gone
        while part := link.recv(4096):
            heard += part
    return heard


def _how_it_ended(status: int) -> str:
    if status == GO_ON_STATUS:
        return "the driver lost its workers"
    return f"the driver was ended by signal {-status}" if status < 0 else f"the driver ended with status {status}"


def _say(text: str) -> None:
    print(f"mcusweep: {text}", file=sys.stderr, flush=True)


def supervise(arguments: Sequence[str]) -> int:
    """Run a command of `COMMANDS` in a separate process, with restarts."""
    driver = [sys.executable, "-P", "-m", "orchestrator.cli.main", *without_secrets(arguments, os.environ)]
    return Supervisor(driver, without_password(shlex.join(["mcusweep", *arguments]))).run()


def without_secrets(arguments: Sequence[str], environment: MutableMapping[str, str]) -> list[str]:
    """The arguments for a child process, which are public: an address with a password is passed in the environment."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        option, given, address = word.partition("=")
        if option == "--storage":
            address = address if given else next(words, "")
            if without_password(address) != address:
                environment[STORAGE_VARIABLE] = address
                continue
            kept += ["--storage", address]
        else:
            kept.append(word)
    return kept
