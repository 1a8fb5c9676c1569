"""What ``import mcusweep`` gives: names loaded on demand, a sweep in two lines, the command line as a module."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mcusweep
from mcu.errors import InputError
from mcu.measure import measure_model
from mcu.tflite.writer import write_tflite
from random_nets import random_net
from search_spaces.sweep import check_table, load_sweep

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart.toml"
SWEEP = {
    "sweep": {"name": "from-python", "trials": 2},
    "task": {"name": "mnist-5k"},
    "network": {"name": "resnet8", "width": 0.5},
    "budgets": {"list": [{"flash": "32KB", "sram": "24KB"}]},
    "methods": {"names": ["uniform"]},
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_public_name_is_there_and_no_other():
    assert set(dir(mcusweep)) == set(mcusweep.__all__)
    assert all(getattr(mcusweep, name) is not None for name in mcusweep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mcusweep.nothing


@pytest.mark.parametrize("sweep", [SWEEP, QUICKSTART, str(QUICKSTART)])
def test_a_sweep_is_launched_and_asked_in_two_lines(sweep):
    study = mcusweep.launch(sweep, executor="simulated")
    planned = 2 if sweep is SWEEP else 19  # with the dense parent of the lineage
    assert len(study.trials()) == planned
    again = mcusweep.launch(sweep, executor="simulated")
    assert list(again.trials()["number"]) == list(study.trials()["number"])


def test_paths_of_a_dictionary_are_relative_to_the_current_folder(tmp_path):
    given = SWEEP | {"task": {"name": "arrays", "path": Path("data.npz")}}
    assert check_table(given, "sweep").task.path == str(tmp_path / "data.npz")
    assert given["task"]["path"] == Path("data.npz")  # the caller's own stays as it is


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"budgets": {"list": [{"flash": "soon"}]}}, {}, r"^sweep: budgets\.list"),
        ({"color": {}}, {}, r"^sweep: .*color"),
        ({"task": {"name": "mnist-5k", "base": "/"}}, {}, r"^sweep: unknown key task\.base"),
        ({"budgets": {"list": [{"flash": "100B"}]}}, {}, r"^budgets: .*100 B"),
        ({}, {"executor": "cloud"}, r"^executor 'cloud': must be one of"),
    ],
)
def test_what_cannot_be_used_is_one_line_before_any_work(tmp_path, change, options, message):
    with pytest.raises(InputError, match=message) as caught:
        mcusweep.launch(SWEEP | change, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_and_its_table_are_the_same_sweep():
    assert check_table(tomllib.loads(QUICKSTART.read_text()), "sweep") == load_sweep(QUICKSTART)


def test_a_model_is_measured_by_path_or_bytes(tmp_path):
    data = write_tflite(random_net(0))
    (tmp_path / "model.tflite").write_bytes(data)
    assert mcusweep.measure("model.tflite") == mcusweep.measure(data) == measure_model(data)
    with pytest.raises(InputError, match=r"^gone\.tflite: cannot be read: No such file"):
        mcusweep.measure("gone.tflite")


def test_the_package_runs_as_the_command_line():
    done = subprocess.run([sys.executable, "-m", "mcusweep", "devices", "--format", "json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"nrf52832" in done.stdout
    assert "nrf52832" in {device.name for device in mcusweep.devices()}
