"""The report that follows a sweep, and the dashboard: this machine only, reading only, a clean end."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.cli.dashboard import reading_only
from orchestrator.cli.live_report import Page, follow, serving
from orchestrator.storage.connection import StoreError, parse_storage
from orchestrator.storage.optuna_storage import open_optuna, read_only
from orchestrator.storage.store import Store

HTML = '<meta content="img-src data:"><body><p>report</p></body>'


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "index.html").write_text(HTML)
    (folder / "figures" / "a.svg").write_text("<svg/>")
    (folder / ".hidden.csv").write_text("secret")
    (folder / "notes.txt").write_text("secret")
    (tmp_path / "outside.csv").write_text("secret")
    return Page(folder)


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_page_is_served_and_asks_for_newer_versions(page):
    with serving(page, 0) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        status, text = ask(address, "/")
        assert status == 200
        assert 'fetch("version"' in text
        assert text.index("setInterval") < text.index("</body>")
        assert "img-src data:; connect-src 'self'" in text
        assert ask(address, "/figures/a.svg") == (200, "<svg/>")
        assert ask(address, "/version") == (200, "0")
        page.version += 1
        assert ask(address, "/version") == (200, "1")
        assert ask(address, "/", "HEAD") == (200, "")
    with pytest.raises(OSError, match="refused"):
        ask(address, "/")
    assert (page.folder / "index.html").read_text() == HTML


@pytest.mark.parametrize(
    "path",
    [
        "/figures/",
        "/figures",
        "/../outside.csv",
        "/%2e%2e/outside.csv",
        "/.hidden.csv",
        "/notes.txt",
        "//etc",
        "/x%00.csv",
    ],
)
def test_nothing_but_the_report_is_served(page, path):
    with serving(page, 0) as address:
        status, text = ask(address, path)
        assert status == 404
        assert "secret" not in text


def test_other_names_and_methods_are_refused(page):
    with serving(page, 0) as address:
        assert ask(address, "/", Host="evil.example:80")[0] == 403
        assert ask(address, "/", "POST")[0] == 501
        assert ask(address, "/", "DELETE")[0] == 501


def test_a_port_that_is_taken_is_one_line(page):
    with serving(page, 0) as address:
        taken = serving(page, int(urlsplit(address).port or 0))
        with pytest.raises(InputError, match=r"--port \d+: .*; give another, or 0 for any"):
            taken.__enter__()


def test_the_report_is_written_again_only_when_trials_have_changed(page, capsys):
    stop, written = threading.Event(), []
    states = iter([0, 0, 1, 1, 2, 2, 2])

    def state():
        value = next(states, None)
        if value is None:
            stop.set()
            return 2
        return value

    def write():
        written.append(page.version)
        if len(written) == 1:
            raise StoreError("no room left")

    follow(page, state, write, every=0.001, stop=stop)
    assert written == [0, 0, 1]
    assert page.version == 2
    assert capsys.readouterr().err == "mcusweep: no room left\n"


def test_ctrl_c_ends_it_cleanly_and_leaves_the_page(store, study, make_spec, tmp_path):
    store.add_trial(study, 0, make_spec())
    command = [sys.executable, "-m", "orchestrator.cli.main", "report", "--live", "--port", "0", "--every", "1"]
    command += ["--storage", store.url.render_as_string(), "--output", str(tmp_path / "page")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite that runs in the background has Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    status, text = ask(address, "/")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert status == 200
    assert "No trial has finished with a model that fits yet" in text
    assert process.returncode == 0
    assert "Traceback" not in told
    assert f"stopped; the page stays in {tmp_path / 'page' / 'index.html'}" in told


def test_dashboards_only_read():
    calls = []
    app = reading_only(lambda environment, start: calls.append(environment["REQUEST_METHOD"]) or [b"shown"])
    said = []
    for method, host in (("GET", "localhost:1"), ("POST", "localhost:1"), ("PUT", "127.0.0.1:1"), ("GET", "evil:1")):
        app({"REQUEST_METHOD": method, "HTTP_HOST": host}, lambda status, headers: said.append(status))
    assert calls == ["GET"]
    assert said == ["403 Forbidden"] * 3
    assert "default_transaction_read_only" in str(read_only(parse_storage("postgresql+psycopg://u@h/n")))


@pytest.mark.skipif(find_spec("optuna_dashboard") is not None, reason="optuna-dashboard is installed")
def test_without_optuna_dashboard_it_says_how_to_get_it(capsys):
    assert cli.run(["dashboard"]) == 2
    assert capsys.readouterr().err == (
        "mcusweep: dashboard needs optuna-dashboard: pip install 'mcusweep[dashboard]'\n"
    )


@pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed")
def test_the_dashboard_lists_the_study_and_cannot_write(tmp_path):
    import io

    import optuna

    from orchestrator.cli.dashboard import dashboard_app

    store = Store(f"sqlite:///{tmp_path}/a.db", writing=True)
    optuna.create_study(study_name="kitchen", storage=store.url.render_as_string())
    said = []
    environment = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "wsgi.input": io.BytesIO(), "HTTP_HOST": "a"}
    body = b"".join(dashboard_app(store)(environment, lambda status, *_: said.append(status)))
    assert said == ["200 OK"]
    assert b"kitchen" in body
    with pytest.raises(optuna.exceptions.StorageInternalError):
        optuna.create_study(storage=open_optuna(store.url, writing=False))
    assert os.path.getsize(tmp_path / "a.db") > 0
