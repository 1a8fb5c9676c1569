"""Hosts that share nothing but a wire, on one kernel: each with its own network, mounts, ``/tmp`` and host name.

What lies in a host's ``/tmp/work`` is seen from outside in its folder ``work``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[3]
OURS = dict.fromkeys((HOUSE, Path(sys.prefix)))
"""What every host has to see, wherever it lies."""

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379


class Host:
    """A host of number ``n`` with the address ``10.77.0.n``; processes of it see their own ``/tmp``."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name, self.address = f"host-{number}", f"10.77.0.{number}"
        self.work = folder / self.name
        self.work.mkdir()
        seen = {self.work: "/tmp/work"} | {place: str(place) for place in OURS if place.is_relative_to("/tmp")}
        keep = [f"mkdir /mnt/{k}; mount --bind '{place}' /mnt/{k}" for k, place in enumerate(seen)]
        back = [f"mkdir -p '{there}'; mount --move /mnt/{k} '{there}'" for k, there in enumerate(seen.values())]
        own = "; ".join(["mount -t tmpfs none /mnt", *keep, "mount -t tmpfs none /tmp", *back])
        inside = f"{own}; hostname {self.name}; ip link set lo up; exec sleep 3600"
        self.process = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sh", "-c", inside])
        deadline = time.monotonic() + 20
        while Path(f"/proc/{self.process.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < deadline, "the host does not start"
            time.sleep(0.05)

    def command(self, *words: str) -> list[str]:
        """The command line by which words run there."""
        enter = ["nsenter", f"--target={self.process.pid}", "--net", "--mount", "--uts"]
        return [*enter, "sh", "-c", 'cd /tmp/work && exec "$@"', "-", *words]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its processes, which find our packages and the fake worker, as `ray job submit` sets them."""
        fakes = str(Path(__file__).parent)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "hosts-of-a-test" * 4}
        submitted = {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"env_vars": {"RAY_USAGE_STATS_ENABLED": "1"}}}'}
        return os.environ | token | submitted | {"PYTHONPATH": f"{HOUSE}:{fakes}", "RAY_USAGE_STATS_ENABLED": "0"}

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a process there."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.command(*words), env=self.environment, text=True, **(quiet | more))

    def end_others(self) -> None:
        """End all processes that see the host's mounts, as if it was switched off and on again."""
        mine = os.readlink(f"/proc/{self.process.pid}/ns/mnt")
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended
                if os.readlink(entry / "ns" / "mnt") == mine and int(entry.name) != self.process.pid:
                    os.kill(int(entry.name), 9)

    def hide(self, folder: Path) -> None:
        """Let a folder of packages be empty there."""
        subprocess.run(self.command("mount", "-t", "tmpfs", "none", str(folder)), check=True)

    def hold(self) -> None:
        """Let its trials wait for tickets, if they ask for some."""
        (self.work / "tickets").mkdir()

    def grant(self, tickets: int) -> None:
        """Let so many of its trials go on."""
        for _ in range(tickets):
            (self.work / "tickets" / str(time.monotonic_ns())).touch()

    def release(self) -> None:
        """Let all its trials go on."""
        shutil.rmtree(self.work / "tickets")

    def cable(self, up: bool) -> None:
        """Plug its cable in, or pull it."""
        subprocess.run(self.command("ip", "link", "set", "wire", "up" if up else "down"), check=True)


def reason_against() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "sh", "-c", "mount -t tmpfs none /tmp; ip link add t0 type bridge"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"the kernel makes no namespaces: {tried.stderr.strip()}"


@contextmanager
def hosts(cpus: Sequence[int], folder: Path) -> Iterator[list[Host]]:
    """Hosts on one wire, the first the head of a Ray cluster of nodes with these CPUs; one of 0 does not join."""
    with ExitStack() as stack:
        there: list[Host] = []
        bridge = Host(99, folder)
        stack.callback(bridge.process.wait)
        stack.callback(bridge.process.kill)
        _run(*bridge.command("ip", "link", "add", "switch", "type", "bridge"))
        _run(*bridge.command("ip", "link", "set", "switch", "up"))
        for number in range(1, len(cpus) + 1):
            host = Host(number, folder)
            stack.callback(_end, host)
            plug = f"plug{number}"
            _run(*bridge.command("ip", "link", "add", plug, "type", "veth", "peer", "name", "wire"))
            _run(*bridge.command("ip", "link", "set", "wire", "netns", str(host.process.pid)))
            _run(*bridge.command("ip", "link", "set", plug, "master", "switch", "up"))
            _run(*host.command("ip", "addr", "add", f"{host.address}/24", "dev", "wire"))
            host.cable(True)
            there.append(host)
        for host, count in zip(there, cpus, strict=True):
            if count:
                join(host, there[0], count)
        yield there


def join(host: Host, head: Host, cpus: int) -> subprocess.Popen[str]:
    """Let a host be a node of the head's cluster."""
    where = ["--head", f"--port={PORT}", "--include-dashboard=false"] if host is head else [
        f"--address={head.address}:{PORT}"
    ]  # fmt: skip
    node = host.start(
        RAY, "start", "--block", *where, f"--num-cpus={cpus}", f"--node-ip-address={host.address}",
        "--object-store-memory=100000000",
    )  # fmt: skip
    deadline = time.monotonic() + 120
    probe = f"import socket; socket.create_connection(('{head.address}', {PORT}), 2)"
    while subprocess.run(host.command(sys.executable, "-S", "-c", probe), capture_output=True).returncode:
        assert time.monotonic() < deadline, "the head does not answer"
        assert node.poll() is None, "the node ended"
        time.sleep(0.2)
    return node


def _end(host: Host) -> None:
    host.end_others()
    host.process.kill()
    host.process.wait()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
