"""Pages with a sweep of their own run as written; blocks, links and the reference are up to date."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from pages import BY_THEMSELVES, CLUSTER, PAGES, ROOT, SECONDS, blocks, prepared, run

pytestmark = pytest.mark.slow

LANGUAGES = ("sh", "python", "toml", "yaml", "sql", "text", "")
MOST_LEFT_OUT = 10


@pytest.mark.parametrize("page", BY_THEMSELVES)
def test_commands_of_the_page_run_as_written(tmp_path, page):
    assert run(page, prepared(tmp_path)) > 0


def test_the_manifests_for_kubernetes_are_yaml_of_the_kinds_that_kuberay_knows():
    manifests = [yaml.safe_load(block.text) for block in blocks(CLUSTER) if block.language == "yaml"]
    assert [manifest["kind"] for manifest in manifests] == ["RayCluster", "RayJob"]
    assert {manifest["apiVersion"] for manifest in manifests} == {"ray.io/v1"}


def test_every_block_is_run_or_says_why_not():
    found = {page: blocks(page) for page in PAGES}
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
