"""From a sweep on sound to firmware that listens: deployment, export, its Makefile, an emulated board."""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from dataclasses import replace

import numpy as np
import pytest

from mcu.devices import find_device
from mcu.firmware import build, core_of, predict_instructions, toolchain
from mcu.firmware.front_end_run import classify_in_qemu
from mcu.front_end import FrontEnd
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.latency import estimate
from mcu.measure import model_input
from mcu.tflite.reader import read_tflite
from orchestrator.cli import main as cli
from orchestrator.queries.export_library import rows_of_a_step, self_test
from orchestrator.worker.firmware_plan import plan_of
from search_spaces.audio.features import features_of

pytestmark = pytest.mark.slow

needs_board = pytest.mark.skipif(toolchain().advice() is not None, reason=str(toolchain().advice()))
needs_make = pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="apt-get install make gcc")

SWEEP = """
[sweep]
name = "listening"
trials = 1
[task]
name = "spoken-digits"
data = "recordings"
options = {copies = 1}
[network]
name = "ds-cnn"
width = 0.125
[budgets]
devices = ["stm32f446re"]
[methods]
names = ["uniform"]
[training]
epochs = 40
batch_size = 16
device = "cpu"
[hyperparameters]
learning_rate = 0.1
[workers]
executor = "local"
count = 1
"""


def digit_sound(digit, speaker, take):
    """A tone for each digit, a little different for each speaker and take; int16 at 8 kHz."""
    rng = np.random.default_rng([digit, speaker, take])
    seconds = 0.4 + 0.1 * speaker
    wave_of = np.sin(2 * np.pi * (200 + 150 * digit + 10 * speaker) * np.arange(int(8000 * seconds)) / 8000)
    return ((wave_of + 0.05 * rng.normal(size=len(wave_of))) * 8000).astype(np.int16)


def write_recordings(folder):
    folder.mkdir()
    for digit in range(10):
        for at, speaker in enumerate(("ann", "bob", "cy")):
            for take in range(4):
                with wave.open(str(folder / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes(digit_sound(digit, at, take).tobytes())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, patch = tmp_path_factory.mktemp("listening"), pytest.MonkeyPatch()
    patch.chdir(folder)
    write_recordings(folder / "recordings")
    (folder / "sweep.toml").write_text(SWEEP)
    assert cli.run(["launch", "sweep.toml", "--quiet"]) == 0
    assert cli.run(["export", "0", "--output", "out", "--format", "esp-idf"]) == 0
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def deployment(study):
    return json.loads((study / "out" / "deployment.json").read_text())


def test_the_deployment_names_every_parameter_of_the_front_end(deployment):
    front_end = FrontEnd(**deployment["front_end"]["parameters"])
    assert (front_end.sample_rate, front_end.frames, front_end.values) == (8000, 49, 10)


def test_a_library_brings_the_front_end_along(study):
    component = study / "out/esp-idf/mcusweep_model"
    assert "src/frontend.c" in (component / "CMakeLists.txt").read_text()
    assert (component / "src/frontend.c").is_file()
    assert (component / "src/frontend.h").is_file()


@needs_board
def test_its_cost_stands_beside_the_network_and_not_in_its_figures(study, deployment, capsys):
    cost = deployment["front_end"]["cost"]
    assert cost["core"] == "cortex-m4f"
    assert cost["instructions"] > 1_000_000
    capsys.readouterr()
    assert cli.run(["show", "0", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["front_end"] == deployment["front_end"]
    both = build(study / "out" / "firmware", find_device("stm32f446re"))
    assert both.flash - shown["flash_firmware"] == pytest.approx(cost["flash"], abs=400)
    words = f"{cost['flash']:,} bytes of flash, {cost['ram']:,} of RAM and {cost['instructions']:,} instructions a clip"
    words = (
        "8,000 samples at 8,000 Hz, in frames of 40 ms every 20 ms, to 49 x 10 centred mfcc features of 40 mel bands "
        f"from 20 to 4000 Hz; beside the network and outside its budget it takes {words}"
    )
    assert words in (study / "out" / "MODEL_CARD.md").read_text()
    assert cli.run(["show", "0"]) == 0
    assert words in capsys.readouterr().out
    assert cli.run(["best", "--device", "stm32f446re"]) == 0
    assert words in capsys.readouterr().err


@needs_make
def test_the_exported_self_test_holds_on_this_computer(study):
    result = subprocess.run(
        ["make", "selftest"], cwd=study / "out" / "firmware", check=True, capture_output=True, text=True
    )
    facts = dict(line.split() for line in result.stdout.splitlines() if len(line.split()) == 2)
    assert int(facts["samples"]) > 0
    assert facts["wrong"] == "0"


@needs_make
def test_an_exported_stream_holds_on_this_computer_and_one_without_gain_is_refused(study, capsys):
    assert cli.run(["export", "0", "--output", "stream", "--stream", "2", "--format", "cmake"]) == 0
    folder = study / "stream" / "firmware"
    told = subprocess.run(["make", "selftest"], cwd=folder, check=True, capture_output=True, text=True).stdout
    assert "wrong 0" in told
    assert "MODEL_HOP" not in (folder / "model.h").read_text()  # the task's features are centred
    assert "frontend_push(heard, model_input());" in (folder / "main.c").read_text()
    library = study / "stream/cmake/mcusweep_model/src"
    assert "#define FRONTEND_HOP 2\n" in (library / "frontend.h").read_text()
    card = (study / "stream" / "MODEL_CARD.md").read_text()
    assert "a stream, 2 rows a step" in card
    assert "the front end saves work there, the network does not" in card
    capsys.readouterr()
    assert cli.run(["export", "0", "--output", "long", "--stream", "49"]) == 2
    assert "hop = 49: must be 1 to 48 frames" in capsys.readouterr().err
    assert not (study / "long").exists() or not list((study / "long").iterdir())


@needs_board
@pytest.mark.parametrize(("clock", "keeps"), [(64_000_000, "keeps up"), (1_000_000, "does not keep up")])
def test_an_exported_stream_says_how_long_a_step_takes_and_whether_it_keeps_up(
    study, deployment, monkeypatch, capsys, clock, keeps
):
    slow = replace(find_device("stm32f446re"), clock_hz=clock)
    monkeypatch.setattr("orchestrator.worker.firmware_plan.find_device", lambda name: slow)
    assert cli.run(["export", "0", "--output", "step", "--stream", "2"]) == 0
    model = read_tflite((study / "out" / "model.tflite").read_bytes())
    plan = plan_of(model, deployment)[0]  # its features are centred: the network is that of whole windows
    front = deployment["front_end"]["cost"]["instructions"] * 2 / 49
    core = core_of(slow)
    step = estimate(predict_instructions(model, core, plan) + front, core.cycles, clock)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"latency: {step.told()} a step, {step.origin}, ")
    assert line.endswith(f"of it for the front end; {keeps} with its sound, which lasts 40 ms")
    assert f"| latency | {line.removeprefix('latency: ')} |" in (study / "step" / "MODEL_CARD.md").read_text()


def test_the_self_test_of_a_stream_is_the_stored_clips_one_after_another():
    clips = np.arange(2 * 5 * 3).reshape(2, 5, 3, 1)
    facts = {"self_test": {"inputs_nhwc": clips.tolist(), "outputs": [[1], [2]]}}
    samples, expected = self_test(facts, 2)
    assert np.array_equal(samples, clips.reshape(5, 2, 3, 1))
    assert expected is None
    assert rows_of_a_step(facts, 2) == 2
    assert rows_of_a_step({"front_end": {"parameters": {"centred": True}}}, 2) is None


@needs_make
@needs_board
def test_the_exported_makefile_links_the_front_end_for_the_device(study):
    folder = study / "out" / "firmware"
    subprocess.run(["make", "DEVICE=stm32f446re"], cwd=folder, check=True, capture_output=True)
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "firmware.elf"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert "frontend_frame" in symbols.stdout
    assert "model_run" in symbols.stdout


@needs_board
def test_the_exported_program_labels_raw_clips_as_python_does(study, deployment):
    clips = np.zeros((20, 8000), np.int16)
    for at, clip in enumerate(clips):
        sound = digit_sound(at % 10, 2, 10 + at)
        clip[1000 : 1000 + len(sound)] = sound
    front_end = FrontEnd(**deployment["front_end"]["parameters"])
    model = read_tflite((study / "out" / "model.tflite").read_bytes())
    mean, std = (deployment["normalise"][name][0] for name in ("mean", "std"))
    wanted = ReferenceInterpreter(model).predict(model_input(model, (features_of(clips, front_end) - mean) / std))
    run = classify_in_qemu(study / "out" / "firmware", clips, core_of(find_device("stm32f446re")))
    assert run.labels.tolist() == wanted.tolist()
    assert len(set(run.labels.tolist())) > 3
