"""A live report of a running sweep: rewritten as trials finish, served on localhost only."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mcu.errors import InputError
from orchestrator.failures import RunFailed

HOST = "127.0.0.1"
_SHOWN = (".html", ".csv", ".json", ".png", ".svg", ".pdf", ".md", ".tex")
_FOLLOW = """<script>
setInterval(async () => {
  try {
    const now = await (await fetch("version", { cache: "no-store" })).text();
    if (now === "%s") return;
    sessionStorage.setItem("scroll", String(scrollY));
    location.reload();
  } catch { /* the server has stopped; the page stays as it is */ }
}, 3000);
scrollTo(0, Number(sessionStorage.getItem("scroll") ?? 0));
</script>"""


class Page:
    """The folder of a report and the count of its versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0

    def html(self) -> bytes:
        """The page, with a script that reloads it when there is a newer version."""
        text = (self.folder / "index.html").read_text("utf-8")
        text = text.replace("img-src data:", "img-src data:; connect-src 'self'", 1)
        head, end, tail = text.rpartition("</body>")
        return f"{head}{_FOLLOW % self.version}{end}{tail}".encode()


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a report on localhost, read-only, and no other files."""

    server_version = "mcusweep"
    sys_version = ""

    def __init__(self, *given: Any, page: Page, **more: Any) -> None:
        self.page = page
        super().__init__(*given, directory=str(page.folder), **more)

    def do_GET(self) -> None:
        """Answer one request."""
        self._answer(super().do_GET, body=True)

    def do_HEAD(self) -> None:
        """Answer a HEAD request."""
        self._answer(super().do_HEAD, body=False)

    def _answer(self, serve_file: Callable[[], None], body: bool) -> None:
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in (HOST, "localhost"):  # a page elsewhere that has its own name point here must not read this
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/version":
            self._send(str(self.page.version).encode(), "text/plain", body)
        elif path in ("/", "/index.html"):
            self._send(self.page.html(), "text/html; charset=utf-8", body)
        elif path.isprintable() and path.endswith(_SHOWN) and "/." not in path:
            serve_file()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes, kind: str, body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Headers against caching and content sniffing."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """Refuse directory listings."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests."""


@contextlib.contextmanager
def serving(page: Page, port: int) -> Iterator[str]:
    """Serve a page while the context is open; yields its address. Port 0 selects any free port.

    Raises:
        InputError: the port is in use or not allowed.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), partial(Handler, page=page))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "must be 0 to 65535"
        raise InputError(f"--port {port}: {reason}; give another, or 0 for any") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def follow(
    page: Page,
    state: Callable[[], object],
    write: Callable[[], object],
    *,
    every: float,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write the report whenever ``state`` has changed, until ``stop`` is set.

    Writing takes processor time from the sweep: the pause is ``every`` seconds, or four times the writing time if that
    is longer. An error is reported once, and writing is retried.
    """
    known, told = state(), ""
    while not stop.wait(every):
        try:
            now = state()
            if now == known:
                continue
            begin = clock()
            write()
            known, told = now, ""
            page.version += 1
            stop.wait(max(0.0, 4 * (clock() - begin) - every))
        except (InputError, RunFailed) as error:
            if str(error) != told:
                print(f"mcusweep: {error}", file=sys.stderr)
            told = str(error)


def be_modest() -> None:
    """Lower this process's priority below the sweep's workers."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
