"""``show``: a trial's figure, memory, latency and files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mcu.budget import Budget
from mcu.int8.model import Int8Model
from mcu.latency import cycles_of
from orchestrator.cli import main as cli
from orchestrator.queries.latency import latency_of
from orchestrator.queries.study_budgets import searched_inputs
from orchestrator.queries.trial import load_trial
from orchestrator.queries.trial_memory import memory_of
from orchestrator.spec import Artifact, EpochReport
from orchestrator.storage.artifacts import Artifacts
from orchestrator.storage.connection import artifact_root
from random_nets import residual_net


@pytest.fixture
def model() -> Int8Model:
    return residual_net(width=4, size=8)


@pytest.fixture
def shown(store, study, make_spec, result, model, tmp_path, monkeypatch):
    """A database whose trial 0 has a model, a trajectory, reports and instructions; the current folder is empty."""
    from mcu.tflite.writer import write_tflite

    data = write_tflite(model)
    root = artifact_root(store.url)
    root.mkdir()
    (root / "model.tflite").write_bytes(data)
    note = Artifact(path="model.tflite", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    spec = make_spec().model_copy(update={"device": "stm32f446re", "budget": Budget(flash=65536, sram=32768)})
    attempt = store.begin_attempt(store.add_trial(study, 0, spec))
    for step in (10, 20):
        store.add_report(attempt, EpochReport(step=step, epochs_done=step / 10, val_accuracy=step / 25))
    steps = [{"step": step, "phase": "pruning", "flash": 70000 - step, "sram": 9, "macs": 5} for step in (0, 10, 20)]
    more = {"trajectory": steps, "instructions": 9_000_000, "dense_widths": {"conv1": 16}, "artifacts": {"model": note}}
    store.finish_attempt(attempt, result.model_copy(update=more))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return store, ["--storage", store.url.render_as_string()]


def test_memory_is_what_measuring_the_file_says(shown, model):
    from mcu.measure import live_memory

    store, _ = shown
    rows = memory_of(load_trial(store, "0"), Artifacts(artifact_root(store.url)))
    assert [row["live"] for row in rows] == live_memory(model)
    assert len({row["layer"] for row in rows}) == len(rows)


def test_without_its_file_a_trial_is_shown_all_the_same(shown, capsys):
    store, storage = shown
    (artifact_root(store.url) / "model.tflite").write_bytes(b"changed")
    assert cli.run(["show", "0", "--figure", "trial.svg", *storage]) == 0
    assert "Activations alive" not in capsys.readouterr().out


def test_latency_states_its_assumption(shown):
    found, cycles = latency_of(shown[0], load_trial(shown[0], "0")), cycles_of("cortex-m4f")
    assert found["latency_ms"] == pytest.approx(9e6 * cycles.middle / 180e3)
    assert found["latency_origin"] == f"estimated: {cycles.text()} at 180 MHz"


def test_the_inputs_a_study_searches_are_the_options_of_its_task_among_its_hyperparameters(study):
    sweep = {"hyperparameters": {"learning_rate": 0.1, "window_ms": {"choices": [25, 40]}}}
    task = {"searchable": ["features", "window_ms"]}
    assert searched_inputs(replace(study, sweep=sweep, task=task)) == ("window_ms",)
    assert searched_inputs(study) == ()


@pytest.mark.parametrize(
    ("bound", "said"), [("0.08s", "within the bound of 80 ms"), ("70ms", "over the bound of 70 ms")]
)
def test_a_latency_is_compared_with_the_bound_of_its_study(shown, capsys, bound, said):
    store, storage = shown
    sweep = {"budgets": {"devices": ["stm32f446re"], "latency": bound}}
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update mcusweep_studies set sweep_json = ?", (json.dumps(sweep),))
    assert latency_of(store, load_trial(store, "0"))["latency_bound"] == said  # 75 ms
    assert "latency_bound" not in latency_of(store, load_trial(store, "0"), "nrf52840")
    assert cli.run(["show", "0", *storage]) == 0
    assert f"180 MHz; {said}\n" in capsys.readouterr().out


def test_show_draws_and_writes_everything(shown, capsys):
    _, storage = shown
    assert cli.run(["show", "0", "--figure", "trial.png", "--output", "out", "--format", "json", *storage]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["latency_ms"] == pytest.approx(50.0 * cycles_of("cortex-m4f").middle)
    assert Path("trial.png").read_bytes().startswith(b"\x89PNG")
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"trial.png", "trial.svg", "trial.pdf", "trial.json", "trajectory.csv", "memory.csv", "widths.csv"}
    assert json.loads(Path("out/trial.json").read_text()) == answer
    assert Path("out/widths.csv").read_text() == "layer,dense,kept\nconv1,16,8\n"
    assert len(Path("out/trajectory.csv").read_text().splitlines()) == 4
    assert "epochs" in Path("out/trial.svg").read_text()


def test_figures_of_other_kinds_are_refused(shown, capsys):
    assert cli.run(["show", "0", "--figure", "trial.gif", *shown[1]]) == 2
    assert "--figure trial.gif: must end in .png, .svg, .pdf" in capsys.readouterr().err
