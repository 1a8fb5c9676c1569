"""Running the command line as somebody who may not write where the database is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLI = [sys.executable, "-P", "-m", "orchestrator.cli.main"]


def as_a_reader(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command run in a folder that it cannot write, by root without the right to pass over permissions."""
    drop: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed: root cannot give up its right to write everywhere")
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        os.chown(folder, 1000, 1000)
    folder.chmod(0o555 if drop == [] else 0o755)
    try:
        return subprocess.run([*drop, *CLI, *words], cwd=folder, capture_output=True, text=True, timeout=60)
    finally:
        folder.chmod(0o755)
