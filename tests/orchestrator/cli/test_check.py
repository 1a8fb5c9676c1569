"""``mcusweep check``: what a network costs, or the line of the user's file that is refused."""

import json

import pytest

from orchestrator.cli import main as cli

NETWORKS = """\
from torch import nn

def small(input_shape, classes):
    layers = [nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, classes))

class Refused(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        x = nn.functional.gelu(self.conv(x))
        return self.head(x.mean((2, 3)))

def refused(input_shape, classes):
    return Refused(classes)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "checked_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)


def test_an_accepted_network_is_priced_dense_and_at_its_smallest(capsys):
    assert cli.run(["check", "checked_networks:small", "--input", "1x16x16", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dense"]["macs"] == 16 * 16 * 9 * 8 + 8 * 10
    assert all(found["smallest"][name] < found["dense"][name] for name in ("flash", "sram", "macs"))


def test_a_refused_network_is_one_line_with_the_line_of_the_file(capsys):
    assert cli.run(["check", "checked_networks:refused", "--input", "1x16x16"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "checked_networks.py:13" in line
    assert "GELU" in line
    assert "use nn.SiLU" in line


@pytest.mark.parametrize("shape", ["0x3", "three", "1x2x3x4", ""])
def test_shapes_that_are_none_are_refused(shape, capsys):
    assert cli.run(["check", "resnet8", "--input", shape]) == 2
    assert "must be like 3x64x64" in capsys.readouterr().err
