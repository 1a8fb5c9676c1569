"""Streams that are closed, full or of another encoding: sweeps go on, answers that cannot be written are one line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from confined import CLI, as_a_reader
from fake_sweep import make_sweep
from scripted import scripted

from mcu.errors import InputError
from orchestrator.running.supervision import LINK
from orchestrator.storage.store import Store
from orchestrator.studies.bundle import bundle_of, write_zip
from orchestrator.tables import write_output

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
FAKES = Path(__file__).parents[1] / "fakes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    scripted(f"sqlite:///{folder}/mcusweep.db", make_sweep(trials=4))
    return folder


def shell(folder: Path, words: list[str], redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *words], cwd=folder, capture_output=True, text=True, timeout=120,
        env=os.environ | environment,
    )  # fmt: skip


@needs_full
@pytest.mark.parametrize(
    ("command", "redirection"),
    [
        ("query", ">/dev/full"),
        ("query", ">&-"),
        ("query --format csv", ">/dev/full"),
        ("best --format json", ">&-"),
        ("status", ">/dev/full"),
        ("devices", ">&-"),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_line_and_status_1(folder, command, redirection):
    done = shell(folder, [*CLI, *command.split()], redirection)
    assert done.returncode == 1
    assert done.stderr.startswith("mcusweep: the result cannot be written to standard output: ")
    assert len(done.stderr.splitlines()) == 1


SWEEP = """
import sys; sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from fake_sweep import OPTIONS, make_sweep, run
from orchestrator.streams import settle_streams
settle_streams(answers=True)
from orchestrator.running.progress import make_watcher
report = run("sqlite:///" + sys.argv[2], make_sweep(trials=3), replace(OPTIONS, workers=1), watcher=make_watcher(False))
sys.exit(0 if report.counts == {"complete": 3} else 5)
"""


@needs_full
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
def test_progress_that_cannot_be_shown_never_stops_a_sweep(tmp_path, redirection):
    done = shell(tmp_path, [sys.executable, "-c", SWEEP, str(FAKES), "s.db"], redirection)
    assert done.returncode == 0, done.stderr
    assert Store(f"sqlite:///{tmp_path}/s.db").integrity() == "ok"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["status", "query", "show 0"])
def test_any_encoding_of_the_terminal_gets_an_answer(folder, command, encoding):
    done = subprocess.run(
        [*CLI, *command.split()], cwd=folder, capture_output=True, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert done.stdout.decode(encoding)
    if command == "status":
        assert b"4 of 4 trials done" in done.stdout


HOMELESS = """
import pwd
def unknown(*_): raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = unknown
"""


@pytest.mark.parametrize(
    "command", ["query", "status", "devices", "tasks", "tasks --describe digits", "export 0 --output o"]
)
def test_commands_run_without_a_home_folder_and_without_a_user(folder, tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(HOMELESS)
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "USER", "MCUSWEEP_CACHE")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    done = subprocess.run([*CLI, *command.split()], cwd=folder, capture_output=True, text=True, env=environment)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if command.startswith("export") else 0), done.stderr
    assert not list(folder.glob("~*"))


def test_a_download_without_a_home_folder_says_what_to_set(folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HOMELESS)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    words = ["tasks", "--download", "cifar10"]
    done = subprocess.run([*CLI, *words], cwd=folder, capture_output=True, text=True, env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "set HOME or MCUSWEEP_CACHE" in done.stderr


@pytest.mark.parametrize("value", ["1", "x", "99:1", "2:PID"])
def test_a_variable_that_no_supervisor_set_is_ignored(folder, value):
    link = value.replace("PID", str(os.getpid()))
    done = shell(folder, [*CLI, "query", "--format", "csv", "--limit", "1"], "", **{LINK: link})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_study_cannot_be_exported_into_a_folder_that_cannot_be_written(folder):
    done = as_a_reader(folder, "study", "export", "s")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--output s.zip: Permission denied" in done.stderr


def test_a_read_only_file_system_is_one_line(folder, monkeypatch):
    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    store = Store(f"sqlite:///{folder}/mcusweep.db")
    monkeypatch.setattr("zipfile.ZipFile", read_only)
    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(InputError, match="Read-only file system"):
        write_zip(bundle_of(store, store.study()), folder / "a.zip")
    with pytest.raises(InputError, match="Read-only file system"):
        write_output(folder / "a.csv", b"")


def test_files_keep_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o077)
    try:
        write_output(tmp_path / "a.csv", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
