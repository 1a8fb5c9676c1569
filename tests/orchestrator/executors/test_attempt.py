"""What an attempt does to its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = """\
import resource
from orchestrator.executors.attempt import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step = [b"x" * 20_000_000, b"y" * 20_000_000]
    del step
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
by_default = pages()
keep_freed_memory()
pages()
print(by_default, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_of_a_step_serves_the_next():
    ran = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    by_default, kept = map(int, ran.stdout.split())
    assert by_default > 4000, "pages of 4 KB that the kernel maps anew"
    assert kept < 100
