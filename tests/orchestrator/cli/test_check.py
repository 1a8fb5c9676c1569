"""``mcusweep check``: what a network costs, or the line of the user's file that is refused."""

import json

import pytest

from mcu.errors import InputError
from orchestrator.cli import main as cli
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

NETWORKS = """\
import torch
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

class Two(nn.Module):
    def __init__(self, image, scalars):
        super().__init__()
        self.conv, self.box, self.kind = nn.Conv2d(image[0], 8, 3), nn.Linear(8, 4), nn.Linear(8 + scalars[0], 3)

    def forward(self, image, scalars):
        x = self.conv(image).relu().mean((2, 3))
        return {"box": self.box(x), "kind": self.kind(torch.cat([x, scalars], 1))}

class Heads(Refused):
    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.head(x), x

def heads(classes):
    return Heads(classes)

def two(input_shape):
    return Two(*sorted(input_shape, key=len, reverse=True) if len(input_shape) == 2 else (input_shape, (4,)))
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
    assert "checked_networks.py:14" in line
    assert "GELU" in line
    assert "use nn.SiLU" in line


@pytest.mark.parametrize("shape", ["0x3", "three", "1x2x3x4", ""])
def test_shapes_that_are_none_are_refused(shape, capsys):
    assert cli.run(["check", "resnet8", "--input", shape]) == 2
    assert "must be like 3x64x64" in capsys.readouterr().err


@pytest.mark.parametrize("shapes", [["2x9x9", "4"], ["scalars=4", "image=2x9x9"]])
def test_several_inputs_and_outputs_are_told_by_name(shapes, capsys):
    asked = [word for shape in shapes for word in ("--input", shape)]
    assert cli.run(["check", "checked_networks:two", *asked, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == ["image 2x9x9", "scalars 4x1x1"]
    assert found["outputs"] == ["box 4x1x1", "kind 3x1x1"]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (
            ["image=2x9x9", "side=4"],
            "--input: image, side; the first arguments of the network's forward are image, scalar",
        ),
        (["image=2x9x9", "4"], "--input: image, one without a name; the first arguments"),
        (["2x9x9"], "Two.forward() missing 1 required positional argument: 'scalars'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(shapes, said, capsys):
    asked = [word for shape in shapes for word in ("--input", shape)]
    assert cli.run(["check", "checked_networks:two", *asked]) == 2
    assert said in capsys.readouterr().err


def test_a_sweep_names_the_own_loop_where_a_network_has_several(tmp_path):
    for name, said in (("two", "missing 1 required"), ("heads", "gave tuple, must be logits")):
        with pytest.raises(InputError, match=f"{said}.*one input and one output: train several in your own loop"):
            build_network(NetworkChoice(name=f"checked_networks:{name}", base=str(tmp_path)), (1, 9, 9), 3, 0)
