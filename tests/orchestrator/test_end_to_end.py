"""The main job as a user does it, small: launch with the real worker, ask, report, export, run the export elsewhere."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from mcu.measure import measure_model
from mcu.tflite import tflm
from mcu.tflite.reader import read_tflite
from orchestrator.cli import main as cli

pytestmark = pytest.mark.slow

SWEEP = """
[sweep]
name = "first"
trials = 2
[task]
name = "digits"
[network]
name = "ds-cnn"
width = 0.25
[budgets]
list = [{flash = "4600", sram = "4700"}, {flash = "5KB", sram = "5KB", macs = "20k"}]
[methods]
names = ["differentiable", "uniform", "l1"]
[training]
epochs = 5
batch_size = 32
device = "cpu"
[hyperparameters]
learning_rate = 0.1
[workers]
executor = "local"
count = 2
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, patch = tmp_path_factory.mktemp("study"), pytest.MonkeyPatch()
    patch.chdir(folder)
    (folder / "sweep.toml").write_text(SWEEP)
    assert cli.run(["launch", "sweep.toml", "--quiet"]) == 0
    yield folder
    patch.undo()


def asked(arguments, capsys):
    capsys.readouterr()
    assert cli.run(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_every_differentiable_trial_is_complete_and_within_its_budget(study, capsys):
    rows = asked(["query", "--format", "json", "--where", "method = 'differentiable'"], capsys)
    assert len(rows) == 2
    assert all((row["state"], row["violation"], row["measured"]) == ("complete", 0, True) for row in rows)
    assert all(row["binding_use"] >= 0.95 for row in rows)


def test_the_database_opens_in_optuna_with_parameters_values_and_constraints(study):
    optuna = pytest.importorskip("optuna")
    loaded = optuna.load_study(study_name="first", storage="sqlite:///mcusweep.db")
    assert len(loaded.trials) == 6
    complete = [trial for trial in loaded.trials if trial.state.name == "COMPLETE"]
    assert complete
    assert all(len(trial.values) == 4 for trial in complete)
    assert all(trial.constraints for trial in complete)
    assert max(max(trial.constraints.values()) for trial in complete) <= 0


def test_the_exported_model_is_what_was_stored_and_runs_the_same_elsewhere(study, capsys):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    number = asked(["best", "--flash", "5KB", "--sram", "5KB", "--format", "json"], capsys)["trial"]["number"]
    row = asked(["query", "--format", "json", "--where", f"number = {number}"], capsys)[0]
    assert cli.run(["export", str(number), "--output", "out"]) == 0
    data = (study / "out" / "model.tflite").read_bytes()
    measured = measure_model(data)
    assert (len(data), measured.sram, measured.macs) == (row["flash"], row["sram"], row["macs"])
    arena = int(re.search(r"MODEL_ARENA_BYTES (\d+)", (study / "out" / "model_data.h").read_text())[1])
    start = "import tflite_micro as t; t.runtime.Interpreter.from_file('out/model.tflite', arena_size={}).invoke()"
    assert arena >= measured.sram
    subprocess.run([sys.executable, "-c", start.format(arena)], check=True)
    resolver = litert.OpResolverType.BUILTIN_REF
    interpreter = litert.Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    codes = np.random.default_rng(0).integers(-128, 128, (20, *source["shape"][1:]), dtype=np.int8)
    theirs = []
    for sample in codes:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        theirs.append(interpreter.get_tensor(sink["index"]).ravel())
    assert np.array_equal(np.stack(theirs), tflm.run(data, codes).reshape(20, -1))


def test_a_model_with_metadata_computes_the_same_and_its_card_says_what_it_costs(study):
    beside = ["--format", "arduino", "--name", "wake", "--also", "second=0"]
    assert cli.run(["export", "0", "--metadata", "--output", "told", *beside]) == 0
    plain, told = ((study / "told" / name).read_bytes() for name in ("model.tflite", "model_with_metadata.tflite"))
    assert read_tflite(told).metadata["labels"] == "0,1,2,3,4,5,6,7,8,9"
    card = (study / "told" / "MODEL_CARD.md").read_text()
    assert f"in {len(told) - len(plain):,} more bytes" in card
    assert re.search(r"Its plan: (whole maps|operators).* bytes of RAM.*: .+\.\n", card)
    codes = np.random.default_rng(1).integers(-128, 128, (4, 8, 8, 1), dtype=np.int8)
    assert np.array_equal(tflm.run(plain, codes), tflm.run(told, codes))
    header = (study / "told/arduino/mcusweep_model/src/mcusweep_model.h").read_text()
    assert re.findall(r"(\w+)_invoke", header) == ["wake", "second"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format", "keil"], "library format 'keil': must be one of arduino"),
        (["--also", "b=0"], "say for whom with --format"),
        (["--format", "cmake", "--also", "b"], "must be NAME=TRIAL"),
        (["--format", "cmake", "--also", "mcusweep=0"], "name 'mcusweep' is taken"),
        (["--format", "cmake", "--name", "Wake"], "model name 'Wake'"),
    ],
)
def test_a_library_that_cannot_be_made_is_refused_before_anything_is_written(study, capsys, options, says):
    assert cli.run(["export", "0", "--output", "refused", *options]) == 2
    assert says in capsys.readouterr().err
    assert not (study / "refused" / "model.tflite").exists()


def test_measuring_the_export_names_every_layer_and_the_boards_that_hold_it(study, capsys):
    assert cli.run(["export", "0", "--output", "measured"]) == 0
    facts = asked(["measure", "measured/model.tflite", "--figure", "memory.png", "--format", "json"], capsys)
    assert sum(layer["macs"] for layer in facts["layers"]) == facts["macs"]
    assert (study / "memory.png").read_bytes()[:4] == b"\x89PNG"
    boards = asked(["devices", "--fits", "measured/model.tflite", "--format", "json"], capsys)
    assert boards == sorted(boards, key=lambda board: -board["binding_use"])
    assert all(board["budget_sram"] >= facts["sram"] for board in boards if not board["core"].startswith("avr"))


def test_the_report_answers_for_every_budget(study):
    assert cli.run(["report", "--output", "report"]) == 0
    page = (study / "report" / "index.html").read_text()
    assert "Which model to flash" in page
    assert (study / "report" / "trials.csv").read_text().count("\n") == 7
    fronts = json.loads((study / "report" / "fronts.json").read_text())
    assert fronts
    assert {"accuracy_flash", "accuracy_sram", "accuracy_macs"} <= {
        path.stem for path in (study / "report" / "figures").glob("*.png")
    }


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("budgets.list=[{flash='900'}]", "the smallest it can be"),
        ("task.name='fashion-mnist' task.data='nowhere'", "nowhere"),
        ("network.name='resnet99'", "resnet99"),
        ("budgets.list=[{flash=-5}]", "-5"),
        ("training.epoch=3", "epoch"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(study, tmp_path, capsys, override, says):
    storage = tmp_path / "fresh.db"
    settings = [part for setting in override.split(" task") for part in ("--set", setting)]
    settings = [part if part.startswith(("--", "task", "bud", "net", "tra")) else f"task{part}" for part in settings]
    capsys.readouterr()
    assert cli.run(["launch", "sweep.toml", *settings, "--storage", f"sqlite:///{storage}"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert len(error.splitlines()) == 1
    assert not storage.exists()


def test_a_network_with_an_unsupported_layer_is_refused_by_its_path(study, tmp_path, capsys):
    (study / "theirs.py").write_text(
        "from torch import nn\n\n\ndef build(input_shape, classes):\n"
        "    return nn.Sequential(nn.Conv2d(input_shape[0], 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(288, classes))\n"
    )
    capsys.readouterr()
    storage = tmp_path / "fresh.db"
    arguments = ["launch", "sweep.toml", "--set", "network.name='theirs:build'", "--storage", f"sqlite:///{storage}"]
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "network layer '1': GELU" in error
    assert "use nn.SiLU or nn.Hardswish" in error
    assert len(error.splitlines()) == 1
    assert not storage.exists()
