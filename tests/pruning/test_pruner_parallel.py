"""Data-parallel training: every rank has the same widths and weights at every step."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("parallel_loop.py")
RANKS = 2


def test_two_ranks_keep_the_same_widths_and_weights(tmp_path):
    command = [sys.executable, str(SCRIPT)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(RANKS), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=SCRIPT.parents[2],
        )
        for rank in range(RANKS)
    ]
    answers = []
    for rank in ranks:
        out, err = rank.communicate(timeout=300)
        assert rank.returncode == 0, err
        answers.append(json.loads(out.splitlines()[-1]))
    first, second = answers
    assert first == second
    assert first["flash"] <= 4_300
    assert first["widths"][0] != first["widths"][-1]
