"""Servers that tests start for themselves on the loopback interface: PostgreSQL and a Ray head."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.processes import descendants, end_all


def postgres_programs() -> Path | None:
    """Folder of ``initdb`` and ``postgres``; None where the server is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """A server with an empty database. PostgreSQL refuses to run as root, so root lends it to a user."""

    def __init__(self, programs: Path) -> None:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="mcusweep-postgres-"))
        if user:
            shutil.chown(self.folder, "postgres", "postgres")
        self._how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder, **user}
        self._programs, self._port = programs, free_port()
        command = [programs / "initdb", "-A", "trust", "-U", "mcusweep", "-N", self.folder / "data"]
        subprocess.run(command, check=True, **self._how)
        self.address = f"postgresql+psycopg://mcusweep@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        settings = {"port": self._port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        settings |= {"unix_socket_directories": self.folder}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen(
            [self._programs / "postgres", "-D", self.folder / "data", *options], **self._how
        )
        status, deadline = self.folder / "data" / "postmaster.pid", time.monotonic() + 60
        while not (status.exists() and status.read_text().rstrip().endswith("ready")):  # it listens before that
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it without waiting for clients."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(30)


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A server with an empty database; its address."""
    server = PostgresServer(programs)
    try:
        server.start()
        yield server.address
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


def wait_for_port(port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")


@contextmanager
def ray_head(cpus: int) -> Iterator[str]:
    """A Ray head of its own, as ``ray start --head`` makes one; its address."""
    port = free_port()
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", f"--num-cpus={cpus}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=200000000",
    ]  # fmt: skip
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    known = []
    try:
        wait_for_port(port)
        yield f"127.0.0.1:{port}"
        known = descendants(head.pid)
    finally:
        known = known or descendants(head.pid)
        head.terminate()
        head.wait(60)
        end_all(known, 5.0)


@contextmanager
def ftp_server(folder: Path) -> Iterator[str]:
    """An FTP server over a folder, in a thread; the address of its root, for the user ``u`` with the password ``p``."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    authorizer = DummyAuthorizer()
    authorizer.add_user("u", "p", str(folder), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
    server = FTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.1, "handle_exit": False}, daemon=True)
    thread.start()
    try:
        yield f"ftp://127.0.0.1:{server.address[1]}"
    finally:
        server.close_all()
        thread.join(10)


@contextmanager
def s3_server() -> Iterator[str]:
    """Moto's S3 server in a thread; the address of an empty bucket."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(f"bucket-{port}")  # moto's servers of one process share their buckets
        yield f"s3://bucket-{port}"
    finally:
        os.environ.pop("AWS_ENDPOINT_URL", None)
        server.stop()
