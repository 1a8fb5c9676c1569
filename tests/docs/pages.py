"""The pages whose commands the tests run: their blocks, in order.

All run as written, unless an HTML comment right before a block says otherwise: ``<!-- not run: why -->``,
``<!-- needs: program -->`` (left out where the program is not installed) and ``<!-- file: NAME -->`` (the block is the
content of that file).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = "docs/tutorial.md"
OF_ITS_STUDY = (
    "README.md",
    "docs/how-to/query.md",
    "docs/how-to/report.md",
    "docs/how-to/studies.md",
    "docs/how-to/firmware.md",
)
"""Pages about the study that the tutorial leaves behind."""

BY_THEMSELVES = ("docs/how-to/run.md", "docs/how-to/own_loop.md", "docs/how-to/search.md")
"""Pages with a sweep of their own."""

CLUSTER = "docs/how-to/cluster.md"
"""Nothing on it runs on one machine."""

BOARD = "docs/how-to/board.md"
"""Nothing on it runs without a board."""

PAGES = (TUTORIAL, *OF_ITS_STUDY, *BY_THEMSELVES, CLUSTER, BOARD)
SECONDS = 900  # a block takes seconds; the machine of the tests may be shared

_BLOCK = re.compile(r"^(?:<!-- (?P<mark>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: what the comment before it says, its language and text."""

    mark: str
    language: str
    text: str

    def value(self, key: str) -> str | None:
        return self.mark.partition(":")[2].strip() if self.mark.startswith(f"{key}:") else None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text("utf-8")
    return [Block(found["mark"] or "", found["language"], found["text"]) for found in _BLOCK.finditer(text)]


def run(page: str, folder: Path) -> int:
    """Run a page's blocks in a folder, in order; how many there were to run. A failing block fails the test."""
    count = 0
    for block in blocks(page):
        name, needs = block.value("file"), block.value("needs")
        if block.value("not run") is not None or (needs and not all(map(shutil.which, needs.split()))):
            continue
        if name:
            (folder / name).write_text(block.text)
        elif block.language in ("sh", "python"):
            command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
            done = subprocess.run(
                [*command, block.text], cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS
            )
            count += 1
            assert done.returncode == 0, f"{page}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return count


def environment() -> dict[str, str]:
    """This process's, with the programs of its Python environment first."""
    here = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return here | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def prepared(folder: Path) -> Path:
    """The folder with the environment where a reader of the pages has it."""
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    return folder
