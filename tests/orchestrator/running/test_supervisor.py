"""The supervisor with small scripts as its command; no sweep, no Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.processes import LocalProcess, descendants, process_alive, process_start
from orchestrator.running import supervisor
from orchestrator.running.supervisor import Supervisor

PRELUDE = (
    "import os, sys, signal, time; from pathlib import Path\n"
    "from orchestrator.running import supervision as s; s.attach()\n"
)


def command(text: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", PRELUDE + text, *map(str, arguments)]


def wait_for(condition, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_a_driver_that_ends_by_its_own_will_is_not_started_again(status, tmp_path, capfd):
    runs = tmp_path / "runs"
    text = f"open(sys.argv[1], 'a').write('x'); s.tell_end(); sys.exit({status})"
    assert Supervisor(command(text, runs), "mcusweep launch s.toml").run() == status
    assert runs.read_text() == "x"
    assert capfd.readouterr().err == ""


def test_the_last_word_of_a_driver_counts_however_late_it_is_heard(tmp_path, monkeypatch):
    """The driver speaks and ends after the supervisor has listened, before it looks whether the driver is there."""
    heard, listened = supervisor._heard, []

    def late(link):
        listened.append(link)
        if len(listened) > 1:
            return heard(link)
        (tmp_path / "go").touch()
        assert wait_for((tmp_path / "gone").exists)
        time.sleep(0.3)
        return b""

    monkeypatch.setattr(supervisor, "_heard", late)
    go, gone, runs = tmp_path / "go", tmp_path / "gone", tmp_path / "runs"
    text = f"""
while not Path({str(go)!r}).exists(): time.sleep(0.01)
s.tell_end(); open({str(runs)!r}, 'a').write('x'); Path({str(gone)!r}).touch()
"""
    assert Supervisor(command(text), "mcusweep launch s.toml").run() == 0
    assert runs.read_text() == "x"


def test_a_killed_driver_is_started_again_until_it_is_done(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("orchestrator.running.supervisor._WAIT_SECONDS", 0.0)
    runs = tmp_path / "runs"
    text = (
        "f = open(sys.argv[1], 'a'); f.write('x'); f.close()\n"
        "if len(open(sys.argv[1]).read()) < 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.tell_end()"
    )
    assert Supervisor(command(text, runs), "mcusweep launch s.toml").run() == 0
    assert runs.read_text() == "xxx"
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("mcusweep: the driver was ended by signal 9; restarting (1 of at most 5")
    assert len(lines) == 2


@pytest.mark.parametrize(("progress", "most"), [("", 3), ("s.tell_progress();", 3)])
def test_reentries_without_progress_are_bounded(progress, most, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("orchestrator.running.supervisor._WAIT_SECONDS", 0.0)
    runs = tmp_path / "runs"
    text = (
        f"f = open(sys.argv[1], 'a'); f.write('x'); f.close(); {progress}\n"
        "if len(open(sys.argv[1]).read()) < 6: sys.exit(s.GO_ON_STATUS)\n"
        "s.tell_end()"
    )
    status = Supervisor(command(text, runs), "mcusweep launch s.toml", most).run()
    said = capfd.readouterr().err
    if progress:
        assert (status, runs.read_text()) == (0, "xxxxxx")
    else:
        assert (status, runs.read_text()) == (1, "xxxx")
        assert "3 times in a row with no trial finished: giving up" in said
        assert said.endswith("continue with: mcusweep launch s.toml\n")


def run_supervisor(text: str, *arguments: object) -> subprocess.Popen:
    code = (
        "import sys; from orchestrator.running.supervisor import Supervisor\n"
        "sys.exit(Supervisor(sys.argv[1:], 'mcusweep launch s.toml').run())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *command(text, *arguments)],
        stderr=subprocess.PIPE,
        text=True,
        # a suite that runs in the background has Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_signals_reach_the_driver_once_each(tmp_path):
    seen = tmp_path / "seen"
    text = (
        "got = []\n"
        "def note(*_): got.append('int'); Path(sys.argv[1]).write_text(f'{len(got)}')\n"
        "signal.signal(signal.SIGINT, note)\n"
        "Path(sys.argv[1]).write_text('0')\n"
        "while len(got) < 2: time.sleep(0.02)\n"
        "s.tell_end(); sys.exit(130)"
    )
    with run_supervisor(text, seen) as supervisor:
        assert wait_for(lambda: seen.exists() and seen.read_text() == "0")
        supervisor.send_signal(signal.SIGINT)
        assert wait_for(lambda: seen.read_text() == "1")
        assert supervisor.poll() is None
        supervisor.send_signal(signal.SIGINT)
        try:
            status = supervisor.wait(20)
        finally:
            supervisor.kill()
        assert status == 130


def test_a_driver_leaves_with_a_killed_supervisor(tmp_path):
    note = tmp_path / "pid"
    with run_supervisor("Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)", note) as supervisor:
        assert wait_for(lambda: note.exists() and note.read_text() != "")
        pid = int(note.read_text())
        assert process_alive(pid)
        supervisor.kill()
        assert wait_for(lambda: not process_alive(pid))


def test_a_reaper_ends_what_a_killed_process_leaves(tmp_path):
    """The child is adopted by nobody and ignores everything but SIGKILL, as an agent of Ray that was left behind."""
    note = tmp_path / "pid"
    text = (
        "import subprocess, sys, time; from pathlib import Path\n"
        "import os; from orchestrator.processes import descendants\n"
        "from orchestrator.executors.reaper import Reaper\n"
        "reaper = Reaper()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "reaper.watch(descendants(os.getpid()))\n"
        "Path(sys.argv[1]).write_text(f'{child.pid} {reaper.pid}'); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(note)]) as owner:
        assert wait_for(lambda: note.exists() and note.read_text() != "")
        child, reaper = map(int, note.read_text().split())
        assert {process.pid for process in descendants(owner.pid)} == {child, reaper}
        owner.kill()
        assert wait_for(lambda: not process_alive(child) and not process_alive(reaper), 10)


def test_a_process_is_told_from_a_later_one_of_the_same_number():
    start = process_start(os.getpid())
    assert LocalProcess(os.getpid(), start).alive
    if start is not None:
        assert not LocalProcess(os.getpid(), start - 1).alive
    assert Path("/proc").exists() == bool(start)
