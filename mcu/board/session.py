"""A conversation with a board: what it is, and how long its model takes. Every doubt ends it in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mcu.board.port import BAUD, Line
from mcu.board.protocol import (
    IDENTIFY,
    VERSION,
    Board,
    BoardModel,
    BoardRun,
    Lines,
    counts,
    model_line,
    run_command,
    vector_line,
)
from mcu.errors import InputError

ASK_SECONDS = 1.5
"""How long an identification is waited for before it is asked for again."""

FIND_SECONDS = 12.0
"""How long a board may take from opening its port, which resets many, to its first answer."""

TRIES = 3
"""How often a run with damaged lines is repeated."""

MOST_RUNS = 10_000
MOST_MODELS = 1000
LINE_CHARACTERS = 40
BITS_A_CHARACTER = 10


class Session:
    """Talks to the board at the other end of a line.

    Args:
        label: name of the line in messages.
        patience: seconds without a line after which a running board is given up.
        clock: seconds, as ``time.monotonic``.

    Raises (from its methods):
        InputError: the board does not answer, answers otherwise than the protocol says, or its clock is not right.
    """

    def __init__(
        self,
        line: Line,
        label: str,
        *,
        baud: int = BAUD,
        patience: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line, self._label, self._baud, self._patience, self._clock = line, label, baud, patience, clock
        self._lines = Lines()

    def identify(self) -> Board:
        """Ask the board until it says what it is."""
        begun, asked = self._clock(), -ASK_SECONDS
        head: list[int] | None = None
        models: list[BoardModel] = []
        while self._clock() - begun < FIND_SECONDS:
            if self._clock() - begun - asked >= ASK_SECONDS:
                asked = self._clock() - begun
                self._line.write(f"\n{IDENTIFY}\n".encode())  # the first end of line closes what noise has begun
            for words in self._lines.feed(self._line.read()):
                if words[0] == "board":
                    head, models = self._head(words), []
                elif head is not None and (model := model_line(words)) is not None and model.index == len(models):
                    models.append(model)
                if head is not None and len(models) == head[2]:
                    return Board(head[0], head[1] or None, tuple(models))
        raise InputError(self._silence(head))

    def _head(self, words: list[str]) -> list[int]:
        """Ticks a second, clock and number of models."""
        found = counts(words, 4)
        if found is None or found[0] != VERSION:
            raise InputError(
                f"--port {self._label}: the board says {' '.join(words)!r}, this mcusweep reads version {VERSION} of "
                "the protocol: export the library again and flash it"
            )
        if not (found[1] > 0 and 0 < found[3] <= MOST_MODELS):
            raise InputError(
                f"--port {self._label}: the board says {' '.join(words)!r}: its program must give a number of ticks a "
                "second above 0, and at least one model"
            )
        return found[1:]

    def _silence(self, head: list[int] | None) -> str:
        if head is not None:
            return f"--port {self._label}: the board says what it is, but its lines come damaged: check the cable"
        if self._lines.noise:
            return (
                f"--port {self._label}: {self._lines.noise:,} bytes came at {self._baud} baud, none of them a line of "
                "the self test: is --baud the board's, and does it run the example of the exported library?"
            )
        return (
            f"--port {self._label}: nothing came in {FIND_SECONDS:.0f} s: is it the right port, and does the board run "
            "the example of the exported library?"
        )

    def measure(self, board: Board, model: BoardModel, runs: int) -> BoardRun:
        """Run the test vectors, then so many timed inferences."""
        if not 1 <= runs <= MOST_RUNS:
            raise InputError(f"--runs {runs}: must be 1 to {MOST_RUNS:,}")
        for _ in range(TRIES):
            self._line.write(f"\n{run_command(model, runs)}\n".encode())
            found = self._follow(board, model, runs)
            if found is not None:
                return found
        raise InputError(
            f"--port {self._label}: lines of {TRIES} runs came damaged ({self._lines.noise:,} bytes of noise): check "
            "the cable, or print nothing else on this line"
        )

    def _follow(self, board: Board, model: BoardModel, runs: int) -> BoardRun | None:
        """The lines of a run; None if some are missing."""
        begun: float | None = None
        ticks: list[int] = []
        vectors: list[tuple[int, int, int]] = []
        for words in self._incoming(model):
            if words[0] == "boot":
                raise InputError(
                    f"--port {self._label}: the board restarted while {model.name} ran: a fault, its watchdog, or too "
                    "little stack"
                )
            if words[0] == "error":
                raise InputError(f"--port {self._label}: the board refuses the run: {' '.join(words[1:])}")
            if words[0] == "time" and counts(words, 0) is not None:
                begun = self._clock()
            elif words[0] == "run" and (one := counts(words, 1)) is not None:
                ticks.append(one[0])
            elif (vector := vector_line(words)) is not None:
                vectors.append(vector)
            elif words[0] == "end" and (begun is not None or ticks or vectors):  # else the second of an earlier run
                break
        in_order = all(number == at for at, (number, _, _) in enumerate(vectors))
        if begun is None or not in_order or len(vectors) != model.vectors or len(ticks) != runs:
            return None
        self._check_clock(board, ticks, self._clock() - begun)
        return BoardRun(tuple(ticks), tuple(wrong for _, wrong, _ in vectors), tuple(check for _, _, check in vectors))

    def _incoming(self, model: BoardModel) -> Iterator[list[str]]:
        """Lines until there is none for too long."""
        last = self._clock()
        while self._clock() - last < self._patience:
            for words in self._lines.feed(self._line.read()):
                last = self._clock()
                yield words
        raise InputError(
            f"--port {self._label}: {model.name} gave no line for {self._patience:g} s: it hangs, or one inference "
            "takes longer than --timeout"
        )

    def _check_clock(self, board: Board, ticks: list[int], elapsed: float) -> None:
        """Compare the board's clock with ours: a wrong rate, or one that wraps during an inference, is noticed."""
        if 0 in ticks:
            raise InputError(
                f"--port {self._label}: the board's clock stands still, or its {board.ticks_per_second:,} ticks a "
                "second are too few for this model: give the hook a faster clock"
            )
        told = sum(ticks) / board.ticks_per_second
        lines = len(ticks) * LINE_CHARACTERS * BITS_A_CHARACTER / self._baud
        if told > 1.1 * elapsed + 0.2 or elapsed > 2 * told + 2 * lines + 1.0:
            raise InputError(
                f"--port {self._label}: the board's clock says {told:.3g} s for {len(ticks)} inferences, this computer "
                f"{elapsed:.3g} s: the hook's ticks_per_second is wrong, or its clock wraps during an inference"
            )
