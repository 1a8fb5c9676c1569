"""A small process that outlives the driver and ends the driver's processes when it is gone, however it died.

Ray ends its main processes with the driver, but not the agents beside them. The driver sends the reaper all of them
(lines ``pid start`` on its standard input); the end of that input means that the driver is gone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

from orchestrator.processes import LocalProcess, end_all

PATIENCE = 3.0  # seconds in which processes may leave by themselves


class Reaper:
    """Handle of the reaper process."""

    def __init__(self) -> None:
        self._known: set[LocalProcess] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator.executors.reaper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C and the end of the terminal are not for it
            text=True,
        )

    @property
    def pid(self) -> int:
        """Process number of the reaper."""
        return self._process.pid

    def watch(self, processes: Iterable[LocalProcess]) -> None:
        """Register processes that must not outlive this one."""
        new = {process for process in processes if process.start is not None and process.pid != self.pid} - self._known
        if not new or self._process.stdin is None:
            return
        self._known |= new
        with suppress(OSError):  # a reaper that was killed is done without
            self._process.stdin.write("".join(f"{process.pid} {process.start}\n" for process in new))
            self._process.stdin.flush()

    def close(self) -> None:
        """End the remaining processes and the reaper."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2 * PATIENCE)
        end_all(self._known, 0.0)


def main() -> None:
    """Read processes until the input ends, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: list[LocalProcess] = []
    for line in sys.stdin:
        pid, _, start = line.partition(" ")
        with suppress(ValueError):
            known.append(LocalProcess(int(pid), float(start)))
    end_all(known, PATIENCE)


if __name__ == "__main__":
    main()
