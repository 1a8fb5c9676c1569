"""``dashboard``: optuna-dashboard on the trial database, read-only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.cli.options import STORAGE, Storage

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

Port = Annotated[int, typer.Option("--port", metavar="N", help="Port on this machine; 0 for any.")]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def dashboard(port: Port = 8080, storage: Storage = STORAGE) -> None:
    """Open optuna-dashboard on the same database, for reading only (extra: mcusweep[dashboard])."""
    from importlib.util import find_spec

    from orchestrator.storage.store import Store

    if find_spec("optuna_dashboard") is None:
        raise InputError("dashboard needs optuna-dashboard: pip install 'mcusweep[dashboard]'")
    store = Store(storage)
    from wsgiref.simple_server import make_server

    app = reading_only(dashboard_app(store))
    try:
        server = make_server("127.0.0.1", port, app, handler_class=_quiet_handler())
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port}: {getattr(error, 'strerror', None) or error}; give another, or 0") from None
    with server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        print("Ctrl-C ends it", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def dashboard_app(store: Store) -> WsgiApp:
    """The dashboard over a read-only connection."""
    from optuna_dashboard import wsgi

    from orchestrator.storage.optuna_storage import open_optuna

    app: WsgiApp = wsgi(open_optuna(store.url, writing=False))
    return app


def reading_only(app: WsgiApp) -> WsgiApp:
    """The same application, with all requests refused that could change data."""

    def guarded(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        host = str(environment.get("HTTP_HOST", "")).rpartition(":")[0]
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD") or host not in ("127.0.0.1", "localhost"):
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"mcusweep opened this database for reading only\n"]
        return app(environment, start)

    return guarded


def _quiet_handler() -> Any:
    from wsgiref.simple_server import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            """Requests are not logged."""

    return Quiet


COMMANDS = (dashboard,)
