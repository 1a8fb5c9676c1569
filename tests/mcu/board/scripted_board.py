"""A board that a test scripts: a thread at the other end of a pty, which answers as the protocol says, or wrongly."""

from __future__ import annotations

import os
import pty
import threading
import tty
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Answer = Callable[[str], Sequence[bytes]]


def line(words: str) -> bytes:
    """A line of the protocol."""
    return f"${words}*{zlib.crc32(words.encode()):08x}\n".encode()


def sound_board(
    identity: str = "0123456789abcdef", ticks: int = 20, outputs: Sequence[bytes] = (b"ab", b"cd"), wrong: int = 0
) -> Answer:
    """A board that runs one model, whose inferences take so many microseconds."""

    def answer(command: str) -> list[bytes]:
        words = command.split()
        if words == ["mcusweep", "board"]:
            return [line("board 1 1000000 64000000 1"), line(f"model 0 digits {identity} {len(outputs)}")]
        if words[:2] != ["mcusweep", "run"]:
            return []
        vectors = [line(f"vector {at} {wrong} {zlib.crc32(codes):08x}") for at, codes in enumerate(outputs)]
        runs = [line(f"run {ticks + at}") for at in range(int(words[3]))]
        return [*vectors, line("time"), *runs, *[line(f"end {words[2]} {words[3]}")] * 2]

    return answer


@contextmanager
def scripted(answer: Answer, banner: bytes = b"") -> Iterator[str]:
    """The port of a board that sends a banner, then the answer to each command it gets."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    done = threading.Event()

    def serve() -> None:
        rest = b""
        os.write(master, banner)
        while not done.is_set():
            try:
                rest += os.read(master, 1024)
            except OSError:
                return
            *commands, rest = rest.split(b"\n")
            for command in commands:
                for part in answer(command.decode("ascii", "replace")):
                    os.write(master, part)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        done.set()
        os.write(slave, b"\n")  # wakes the reader
        thread.join(5)
        os.close(master)
        os.close(slave)
