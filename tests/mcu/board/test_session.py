"""Every way in which a board can fail to answer: one line says which it was, and nothing unsound is believed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcu.board import Board, BoardRun, Session, open_port, session
from mcu.board.protocol import Lines
from mcu.errors import InputError

if importlib.util.find_spec("serial") is None:
    pytest.skip("pyserial is not installed", allow_module_level=True)

from scripted_board import Answer, line, scripted, sound_board


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIND_SECONDS", 0.4)
    monkeypatch.setattr(session, "ASK_SECONDS", 0.15)


def ask(answer: Answer, banner: bytes = b"", runs: int = 4) -> tuple[Board, BoardRun]:
    with scripted(answer, banner) as port, open_port(port) as serial:
        talk = Session(serial, port, patience=0.4)
        board = talk.identify()
        return board, talk.measure(board, board.models[0], runs)


def changed(change: dict[str, bytes], only: int = 99) -> Answer:
    """A sound board whose lines that begin with a word are others, the first so many times."""
    left = dict.fromkeys(change, only)

    def answer(command: str) -> Sequence[bytes]:
        parts = []
        for part in sound_board()(command):
            word = part[1:].split(b" ")[0].split(b"*")[0].decode()
            if left.get(word, 0) > 0:
                left[word] -= 1
                part = change[word]
            parts.append(part)
        return parts

    return answer


def test_a_sound_board_is_measured() -> None:
    board, run = ask(sound_board())
    assert (board.core_hz, board.models[0].name, board.models[0].vectors) == (64_000_000, "digits", 2)
    assert run == BoardRun((20, 21, 22, 23), (0, 0), (0x9E83486D, 0x45D68FDA))


def test_banners_log_lines_and_halves_are_passed_over() -> None:
    noisy = {"time": b"$ti\xff\x00\nI (312) wifi: up$time" + line("time")[5:], "run": b"half a $run 7*" + line("run 9")}
    _, run = ask(changed(noisy), banner=b"\x00\xffrst:0x1 (POWERON)\r\n$board 1 9 9 1*00000000\r\n" + line("boot"))
    assert run.ticks == (9, 9, 9, 9)


def test_a_run_with_a_damaged_line_is_repeated() -> None:
    assert ask(changed({"run": b"$run 20*00000000\n"}, only=1))[1].ticks == (20, 21, 22, 23)
    assert ask(changed({"end": b""}, only=1))[1].ticks == (20, 21, 22, 23)
    with pytest.raises(InputError, match=r"lines of 3 runs came damaged \(\d+ bytes of noise\): check the cable"):
        ask(changed({"vector": b"$vector 0 0 zz*00000000\n"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"board": line("board 2 9 0 1 new")},
            "says 'board 2 9 0 1 new', this mcusweep reads version 1",
        ),
        ({"board": line("board 1 0 0 1")}, "must give a number of ticks a second above 0"),
        ({"model": b"$model 0 dig"}, "says what it is, but its lines come damaged"),
        ({"model": line("model 0 digits 0123456789abcdef 9999999999")}, "lines of 3 runs came damaged"),
        ({"vector": line("boot")}, "the board restarted while digits ran"),
        ({"time": line("error no room")}, "the board refuses the run: no room"),
        ({"end": b""}, r"digits gave no line for 0\.4 s: it hangs"),
        ({"run": line("run 0")}, "the board's clock stands still"),
        ({"run": line("run 900000")}, r"says 3\.6 s for 4 inferences, this computer"),
    ],
)
def test_faults_of_the_program_are_one_line(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        ask(changed(change))
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("--port") == 1
    assert "the line failed" not in str(refused.value)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "nothing came in"),
        (b"\x80\xfe\x00 \x1f" * 9 + b"\n", "bytes came at 115200 baud, none of them a line"),
        (b"$board 1 1000000 0", "bytes came at 115200 baud, none of them a line"),
    ],
)
def test_a_port_without_a_board_and_a_wrong_baud_rate_are_told_apart(sent: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(lambda command: [sent] if command.startswith("mcusweep") else [])


def test_a_clock_that_wraps_within_an_inference_is_noticed() -> None:
    talk = Session(Silent(), "x", clock=lambda: 0.0)
    with pytest.raises(InputError, match="its clock wraps"):
        talk._check_clock(Board(1_000_000, None, ()), [250_000] * 4, elapsed=17.2)
    talk._check_clock(Board(1_000_000, None, ()), [250_000] * 4, elapsed=1.05)


class Silent:
    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None: ...


def test_ports_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such port; serial ports here: "), open_port(str(tmp_path / "x")):
        pass
    taken = pytest.raises(InputError, match="another program uses it")
    with scripted(sound_board()) as port, open_port(port), taken, open_port(port):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the line failed"), open_port(str(tmp_path / "file")):
        pass


def test_numbers_of_runs_are_bounded() -> None:
    for runs in (0, 10_001):
        with pytest.raises(InputError, match=f"--runs {runs}: must be 1 to 10,000"):
            ask(sound_board(), runs=runs)


def test_noise_without_an_end_is_dropped() -> None:
    lines = Lines()
    assert lines.feed(b"x" * 1000) == []
    assert lines.feed(b"\n" + line("time")) == [["time"]]
    assert lines.noise == 1000
