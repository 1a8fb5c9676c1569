"""The commands of `ray job` on docs/how-to/cluster.md: submit a sweep, stop it, go on with changed files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from servers import free_port

from orchestrator.processes import descendants, end_all
from orchestrator.storage.store import Store

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "cluster.md"
SWEEP = """
[sweep]
name = "tiny"
trials = 8
[task]
name = "digits"
[network]
name = "my_network:build"
[budgets]
list = [{flash = "5KB", sram = "5KB"}]
[methods]
names = ["uniform"]
[training]
epochs = 1
device = "cpu"
[stopping]
enabled = false
[hyperparameters]
learning_rate = 0.1
"""
NETWORK = """
from torch import nn

def build(input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 2 * 2, classes)
    )
"""
BIN = Path(sys.executable).parent


def commands() -> list[str]:
    """Those of the page, a line each."""
    text = PAGE.read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.startswith("ray job ")]


def test_the_job_of_kubernetes_runs_the_command_that_is_submitted():
    manifests = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    [entry] = [manifest["spec"]["entrypoint"] for manifest in manifests if manifest["kind"] == "RayJob"]
    submitted = commands()[0].partition(" -- ")[2]
    places = re.compile(r"(?<=sqlite:///)\S+|\S*sweep\.toml")
    assert places.sub("...", entry) == places.sub("...", submitted)


@pytest.mark.slow
def test_a_submitted_sweep_is_stopped_and_goes_on_with_changed_files(tmp_path):
    if find_spec("aiohttp_cors") is None:
        pytest.skip("NOT TESTED: `ray job submit`; pip install 'mcusweep[cluster]'")
    submit, stop, resume = commands()
    job, file = tmp_path / "job", tmp_path / "sweeps.db"
    job.mkdir()
    (job / "sweep.toml").write_text(SWEEP)
    (job / "my_network.py").write_text(NETWORK)
    port, dashboard = free_port(), free_port()
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-a-test" * 4, "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip

    def start(command: str) -> subprocess.Popen[str]:
        words = shlex.split(command.replace("/srv/sweeps.db", str(file)))
        return subprocess.Popen(
            words, env=environment, cwd=job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    alone = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    words = f"ray start --head --block --port={port} --num-cpus=2 --node-ip-address=127.0.0.1"
    options = ["--object-store-memory=100000000", f"--dashboard-port={dashboard}", "--include-dashboard=true"]
    head = subprocess.Popen([*words.split(), *options], env=alone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while (listed := start("ray job list")).wait() != 0:
            listed.communicate()
            assert head.poll() is None
        first = start(submit)
        while done(file) < 2:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.5)
        assert start(stop).wait() == 0
        assert "continue with: mcusweep resume --study tiny" in first.communicate()[0]
        assert 2 <= done(file) < 8
        (job / "notes.txt").write_text("another folder for Ray")
        second = start(resume)
        assert "study tiny: 8 trials done" in second.communicate()[0]
        assert (second.returncode, done(file)) == (0, 8)
    finally:
        known = descendants(head.pid)
        head.terminate()
        head.wait(60)
        end_all(known, 5.0)


def done(file: Path) -> int:
    if not file.exists():
        return 0
    store = Store(f"sqlite:///{file}")
    return store.state_counts(store.study("tiny")).get("complete", 0)
