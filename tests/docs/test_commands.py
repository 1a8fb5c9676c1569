"""Every command on README.md and in docs/ runs as written, in the order of its page; the reference is up to date.

In the pages, an HTML comment right before a block says otherwise: ``<!-- not run: why -->``,
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

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = "docs/tutorial.md"
PAGES = (
    "README.md",
    "docs/how-to/query.md",
    "docs/how-to/report.md",
    "docs/how-to/studies.md",
    "docs/how-to/search.md",
    "docs/how-to/run.md",
    "docs/how-to/own_loop.md",
    "docs/how-to/firmware.md",
)
CLUSTER = "docs/how-to/cluster.md"
"""Nothing on it runs on one machine."""

BOARD = "docs/how-to/board.md"
"""Nothing on it runs without a board."""

LANGUAGES = ("sh", "python", "toml", "yaml", "sql", "text", "")
MOST_LEFT_OUT = 10
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which the tutorial was followed, its study in ``mcusweep.db``."""
    place = tmp_path_factory.mktemp("gestures")
    (place / ".venv").symlink_to(Path(sys.executable).parents[1])
    run(TUTORIAL, place)
    return place


def test_a_newcomer_gets_from_an_npz_to_firmware_by_the_tutorial_alone(folder):
    for name in ("mcusweep.db", "winner.png", "report/index.html", "gesture_model/model.tflite"):
        assert (folder / name).stat().st_size > 0
    card = (folder / "gesture_model/MODEL_CARD.md").read_text()
    assert "gestures" in card
    if shutil.which("arm-none-eabi-gcc"):
        assert (folder / "gesture_model/firmware/firmware.elf").read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_page_run_as_written(folder, page):
    assert run(page, folder) > 0


def test_the_manifests_for_kubernetes_are_yaml_of_the_kinds_that_kuberay_knows():
    manifests = [yaml.safe_load(block.text) for block in blocks(CLUSTER) if block.language == "yaml"]
    assert [manifest["kind"] for manifest in manifests] == ["RayCluster", "RayJob"]
    assert {manifest["apiVersion"] for manifest in manifests} == {"ray.io/v1"}


def test_every_block_is_run_or_says_why_not():
    found = {page: blocks(page) for page in (TUTORIAL, *PAGES, CLUSTER, BOARD)}
    others = [str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "how-to").glob("*.md")]
    assert set(others) <= set(found)
    assert all(block.language in LANGUAGES for page in found.values() for block in page)
    left_out = [block for page in found.values() for block in page if block.value("not run") is not None]
    assert all(len(block.value("not run") or "") > 10 for block in left_out)
    assert len(left_out) <= MOST_LEFT_OUT


def test_links_between_pages_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_files_that_contributors_are_sent_to_are_there():
    named = re.findall(r"`([\w./-]+/[\w./-]*|[\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert len(named) > 40
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_reference_is_what_the_code_says():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", "--check"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
