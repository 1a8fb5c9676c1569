"""``measure --port``: what a board measured is stored beside the model it runs, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mcu.devices import find_device
from mcu.firmware import CORES, choose_plan, predict_instructions
from mcu.firmware.library import identity_of
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite.writer import write_tflite
from orchestrator.cli import main as cli
from orchestrator.queries.latency import cycles_on, latency_of
from orchestrator.queries.trial import load_trial
from orchestrator.spec import FILES, Artifact
from orchestrator.storage.artifacts import claim_artifacts
from random_nets import plain_net
from scripted_board import Answer, line, scripted, sound_board

pytest.importorskip("serial", reason="pyserial is not installed")

MODEL = plain_net(size=8, width=4)
DATA = write_tflite(MODEL)
INPUTS = np.zeros((2, 8, 8, MODEL.tensors[MODEL.input].shape[-1]), np.int8)
OUTPUTS = ReferenceInterpreter(MODEL).run(INPUTS)
IDENTITY = identity_of(DATA)
BYTES = [output.tobytes() for output in OUTPUTS]
Measure = Callable[..., int]


@pytest.fixture
def trial(store, study, make_spec, result):
    """A trial of a device with a model and its deployment; its address."""
    deployment = {"self_test": {"inputs_nhwc": INPUTS.tolist(), "outputs": OUTPUTS.tolist()}}
    folder, notes = claim_artifacts(store).folder, {}
    for name, data in (("model", DATA), ("deployment", json.dumps(deployment).encode())):
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest[:16]).mkdir(parents=True)
        (folder / digest[:16] / FILES[name]).write_bytes(data)
        notes[name] = Artifact(path=f"{digest[:16]}/{FILES[name]}", sha256=digest, bytes=len(data))
    for number in (0, 1):  # the second is of the same model
        spec = make_spec(seed=number).model_copy(update={"device": "stm32f446re"})
        attempt = store.begin_attempt(store.add_trial(study, number, spec))
        store.finish_attempt(attempt, result.model_copy(update={"artifacts": notes, "instructions": 3_000_000}))
    return store


def measure(store, answer: Answer, *arguments: str) -> int:
    with scripted(answer, banner=b"boot") as port:
        return cli.run(["measure", *arguments, "--port", port, "--storage", store.url.render_as_string()])


def test_a_measured_latency_is_stored_beside_every_trial_of_the_model(trial, capsys):
    before = latency_of(trial, load_trial(trial, "0"))
    assert before["latency_origin"].startswith("estimated: ")
    for ticks in (1700, 1900):
        assert measure(trial, sound_board(IDENTITY, ticks, BYTES), "--runs", "3", "--format", "json") == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert told["stored"] == ["s#0", "s#1"]
        assert told["latency_ms"] == pytest.approx((ticks + 1) / 1000)
        assert told["estimated_ms"] > 0
    for number in ("0", "1"):
        found = latency_of(trial, load_trial(trial, number))
        assert found["latency_ms"] == pytest.approx(1.901)
        assert found["latency_estimated_ms"] != before["latency_ms"], "estimates are calibrated by now"
        assert found["latency_origin"].startswith("measured on /dev/")
        assert found["latency_origin"].endswith(", 3 runs")
    assert cli.run(["show", "0", "--storage", trial.url.render_as_string()]) == 0
    assert "latency            1.9 ms ± 0 %, measured on /dev/" in capsys.readouterr().out


def test_boards_calibrate_the_cycles_of_their_device(trial):
    device = find_device("stm32f446re")
    assert cycles_on(trial, device) == CORES["cortex-m4f"].cycles
    assert measure(trial, sound_board(IDENTITY, 1000, BYTES), "--runs", "1") == 0
    instructions = predict_instructions(MODEL, CORES["cortex-m4f"], choose_plan(MODEL).plan)
    found = cycles_on(trial, device)
    assert found.value == pytest.approx(1000 * 64 / instructions)  # the board's own clock counts, 64 MHz
    assert found.low < found.value < found.high
    assert found.source == "by 1 model measured on stm32f446re"
    assert cycles_on(trial, find_device("nrf52840")) == CORES["cortex-m4f"].cycles


def other_outputs() -> Sequence[bytes]:
    return [bytes(reversed(BYTES[0] + b"x")), BYTES[1]]


def a_right_model_and_a_wrong_one(command: str) -> Sequence[bytes]:
    if command.split() == ["mcusweep", "board"]:
        models = [line(f"model {at} {name} {IDENTITY} 2") for at, name in enumerate(("right", "wrong"))]
        return [line("board 1 1000000 64000000 2"), *models]
    outputs = other_outputs() if command.startswith("mcusweep run 1") else BYTES
    return sound_board(IDENTITY, 1700, outputs)(command)


@pytest.mark.parametrize(
    ("board", "arguments", "message"),
    [
        (sound_board("f" * 16, 9, BYTES), ["0"], f"runs digits ({16 * 'f'}), expected was trial 0 of s ({IDENTITY})"),
        (sound_board(IDENTITY, 9, BYTES, wrong=2), [], "4 codes of digits differ in test vectors 0, 1; nothing"),
        (sound_board(IDENTITY, 9, other_outputs()), [], "the board's outputs are not those of s#0: nothing is stored"),
        (a_right_model_and_a_wrong_one, [], "the board's outputs are not those of s#0: nothing is stored"),
        (sound_board(IDENTITY, 99, BYTES), [], "at the 64 MHz of stm32f446re, whose core takes 1 at"),
        (sound_board(IDENTITY, 9, BYTES), ["--device", "nowhere"], "nowhere"),
        (sound_board(IDENTITY, 9, BYTES), ["--device", "stm32l053r8"], "runs at 64 MHz, stm32l053r8 at most at 32"),
        (sound_board(IDENTITY, 9, BYTES), ["absent.tflite"], "absent.tflite: cannot be read"),
        (sound_board(IDENTITY, 9, BYTES), ["--firmware"], "--firmware and --figure are for a file"),
    ],
)  # fmt: skip
def test_what_is_not_the_model_is_refused_in_one_line(trial, capsys, board, arguments, message):
    assert measure(trial, board, *arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert message in told.err
    assert latency_of(trial, load_trial(trial, "0"))["latency_origin"].startswith("estimated: ")


def test_models_of_no_trial_are_measured_and_not_stored(trial, capsys, tmp_path):
    (tmp_path / "theirs.tflite").write_bytes(b"theirs")
    answer = sound_board(identity_of(b"theirs"), 9, BYTES)
    assert measure(trial, answer, str(tmp_path / "theirs.tflite"), "--device", "rp2040") == 0
    told = capsys.readouterr()
    assert "latency_ms           0.0" in told.out
    assert "digits: not stored: no trial of sqlite:///" in told.err
    assert measure(trial, answer) == 0
    assert "give --device NAME" in capsys.readouterr().err


def test_a_damaged_file_of_latencies_is_no_latency(trial):
    assert measure(trial, sound_board(IDENTITY, 1700, BYTES), "--runs", "1") == 0
    note = load_trial(trial, "0").artifacts["latency"]
    (claim_artifacts(trial).folder / note["path"]).write_text("[]")
    assert latency_of(trial, load_trial(trial, "0"))["latency_origin"].startswith("estimated: ")
    assert cycles_on(trial, find_device("stm32f446re")) == CORES["cortex-m4f"].cycles


def test_a_measured_latency_travels_with_its_study_and_calibrates_only_once_it_is_trusted(trial, tmp_path):
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of
    from orchestrator.studies.merge import bring_in

    assert measure(trial, sound_board(IDENTITY, 1700, BYTES), "--runs", "1") == 0
    bundle = bundle_of(trial, trial.study("s"))
    assert [path.rpartition("/")[2] for path in bundle.files()] == ["deployment.json", "latency.json", "model.tflite"]
    there = Store(f"sqlite:///{tmp_path}/there.db", writing=True)
    assert bring_in(there, bundle).missing == ()
    assert latency_of(there, load_trial(there, "0"))["latency_ms"] == pytest.approx(1.7)
    assert cycles_on(there, find_device("stm32f446re")) == CORES["cortex-m4f"].cycles
    there.close()
