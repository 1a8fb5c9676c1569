"""``mcusweep init``: for every task and device a sweep that passes every check before training, unedited."""

import shutil

import numpy as np
import pytest

from mcu.errors import InputError
from orchestrator.planning.preflight import check_sweep
from search_spaces.sweep import load_sweep
from search_spaces.tasks import registry
from search_spaces.template import template

pytestmark = pytest.mark.slow

TASKS = tuple(registry.BUILT_IN)
DEVICES = ("stm32l053r8", "stm32f103c8", "stm32f446re", None)
"""The smallest part of the catalogue, a small one, a usual one, and no device: a list of small budgets."""


@pytest.fixture(scope="module")
def places(tmp_path_factory, write):
    """What a task's data or path is here; the others bring theirs."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    np.savez(folder / "arrays.npz", x=rng.normal(size=(60, 1, 20, 20)).astype(np.float32), y=np.arange(60) % 3)
    return {
        "arrays": folder / "arrays.npz",
        "spoken-digits": write["digits"](folder / "wavs", takes=1),
        "keywords": write["commands"](folder / "commands"),
        "watch": write["watch"](folder / "watch"),
        "cifar10": write["cifar"](folder / "cifar", 60, ".bin"),
        "image-folder": write["images"](folder / "images"),
        "table": write["table"](folder / "sensor.csv"),
        "anomaly-folder": write["machines"](folder / "machines"),
        "audio-folder": write["recordings"](folder / "recordings"),
    }


def sweep_of(task, device, places, tmp_path):
    (tmp_path / "sweep.toml").write_text(template(task, device))
    key = "path" if task in ("arrays", "table") else "data"
    overrides = [f"task.{key}={places[task]}"] if task in places else []
    if task == "spoken-digits":
        overrides.append("task.options={copies = 1}")
    if task == "keywords-synthetic":
        overrides.append('task.options={engines = "espeak-ng", voices = 8, takes = 1, clips = 360}')
    if task == "fashion-mnist":
        overrides += ["task.options={train_limit = 200, val_limit = 100, test_limit = 100}"]
    return load_sweep(tmp_path / "sweep.toml", overrides)


def installed(task):
    if task == "keywords-synthetic" and shutil.which("espeak-ng") is None:
        return False
    try:
        registry.task_digest(registry.TaskChoice(name=task))
    except InputError:
        return task != "fashion-mnist"
    return True


@pytest.mark.parametrize("task", TASKS)
def test_what_init_writes_can_be_launched_unedited(task, places, tmp_path, monkeypatch):
    if not installed(task):
        pytest.skip(f"the data of {task} are not on this machine")
    monkeypatch.setattr("search_spaces.tasks.cifar.BATCH_ROWS", 60)
    for device in DEVICES:
        if task in ("cifar10", "machine-sound", "anomaly-folder") and device == "stm32l053r8":
            continue
        sweep = sweep_of(task, device, places, tmp_path)
        assert check_sweep(sweep)["counts"]["train"]
        assert sweep.training.epochs >= 10
        budgets = sweep.planned_budgets()
        assert len(budgets) == (1 if device else 4)


def test_a_device_too_small_for_any_network_is_refused_at_once():
    with pytest.raises(InputError, match=r"task .cifar10.: no network fits 4,096 bytes of SRAM .* takes 5,200"):
        template("cifar10", "stm32l053r8")


@pytest.mark.parametrize(("task", "device"), [("no-such", None), ("digits", "no-such")])
def test_unknown_names_are_refused(task, device):
    with pytest.raises(InputError, match="no-such"):
        template(task, device)
