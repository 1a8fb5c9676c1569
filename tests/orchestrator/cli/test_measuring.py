"""``measure`` and ``devices --fits`` on files from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mcu.firmware import choose_plan
from mcu.graph.kinds import Activation, Kind
from mcu.graph.ports import Port
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from orchestrator.cli import main as cli


def model(scale: float = 0.5) -> Int8Model:
    tensors = tuple(QTensor((1, 4, 4, 2), each, 0) for each in (0.5, scale, 0.02))
    relu = QOp(Kind.RELU, (0,), 1, activation=Activation.RELU)
    return Int8Model(tensors, (relu, QOp(Kind.ADD, (0, 1), 2)), (Port(0),), (Port(2),))


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
@pytest.mark.parametrize("command", [["measure"], ["devices", "--fits"]], ids=lambda command: command[0])
def test_a_file_that_aborts_the_interpreter_is_one_line_and_status_2(command, tmp_path, capsys):
    file = tmp_path / "theirs.tflite"
    file.write_bytes(write_tflite(model(scale=4.7e24)))
    assert cli.run([*command, str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert f"{file}: TensorFlow Lite Micro crashes on it" in told.err


def test_a_figure_writes_the_names_of_layers_as_the_file_has_them(tmp_path, capsys, monkeypatch):
    named = model()
    measured = replace_names(named, ("layer $\\frac$ x", "cost $5_in and $6_out"))
    monkeypatch.setattr("mcu.measure.measure_model", lambda *_: measured)
    (tmp_path / "theirs.tflite").write_bytes(b"")
    for name in ("memory.png", "memory.svg"):
        assert cli.run(["measure", str(tmp_path / "theirs.tflite"), "--figure", str(tmp_path / name)]) == 0
    drawn = (tmp_path / "memory.svg").read_text()
    assert "layer $\\frac$ x" in drawn
    assert "cost $5_in and $6_out" in drawn
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def replace_names(named: Int8Model, names: tuple[str, ...]):
    from mcu.measure import measure_model

    measured = measure_model(write_tflite(named))
    layers = tuple(replace(layer, name=name) for layer, name in zip(measured.layers, names, strict=True))
    return replace(measured, layers=layers)


def test_a_figure_that_cannot_be_written_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "ours.tflite").write_bytes(write_tflite(model()))
    figure = tmp_path / "nowhere" / "memory.png"
    assert cli.run(["measure", str(tmp_path / "ours.tflite"), "--figure", str(figure)]) == 2
    assert f"--figure {figure}: folder {figure.parent} does not exist" in capsys.readouterr().err


def test_a_device_gets_predicted_firmware_where_there_is_a_program_for_it(tmp_path, capsys):
    file = tmp_path / "ours.tflite"
    file.write_bytes(write_tflite(model()))
    told = {}
    for device in ("gd32vf103cb", "esp32"):
        assert cli.run(["measure", str(file), "--device", device, "--format", "json"]) == 0
        told[device] = json.loads(capsys.readouterr().out)
    assert told["gd32vf103cb"]["instructions_predicted"] > 32 * 60  # a ReLU and a sum of 32 values
    assert told["gd32vf103cb"]["latency_ms"] > 0
    assert "instructions_predicted" not in told["esp32"]


def test_a_board_without_the_interpreter_holds_a_model_by_its_program(tmp_path, capsys):
    (tmp_path / "ours.tflite").write_bytes(write_tflite(model()))
    assert cli.run(["devices", "--fits", str(tmp_path / "ours.tflite"), "--format", "json"]) == 0
    boards = {board["name"]: board["binding_use"] for board in json.loads(capsys.readouterr().out)}
    taken = choose_plan(model(), "avr5").chosen
    assert boards["atmega328p"] == pytest.approx(max(taken.flash / 24_576, taken.ram / 1_536))
