"""The command line in this process; the two that must stay light in a process of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_sweep import OPTIONS, make_sweep, run

import orchestrator.running.run
from orchestrator.cli import main as cli
from orchestrator.running.run import RunOptions
from orchestrator.storage.store import Store

SWEEP = """
[sweep]
name = "s"
trials = 2
[task]
name = "mnist-5k"
[network]
name = "resnet8"
[budgets]
list = [{flash = "64KB"}, {flash = "32KB", sram = "40kB"}]
[methods]
names = ["fake"]
[hyperparameters]
quality = {low = 0.1, high = 0.9}
reports = 1
[sampler]
name = "random"
[workers]
executor = "local"
count = 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store_with_password():
    from types import SimpleNamespace

    from orchestrator.storage.connection import parse_storage

    return SimpleNamespace(url=parse_storage("postgresql+psycopg://u:secret@h/n")), SimpleNamespace(name="s")


@pytest.fixture
def sweep_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep file, and the fake worker behind ``launch``."""
    monkeypatch.setattr("orchestrator.launch.check_sweep", lambda sweep: {"name": "toy"})
    real = RunOptions
    monkeypatch.setattr(
        orchestrator.running.run, "RunOptions", lambda **given: real(**given, worker="fake_worker:run_trial")
    )
    file = folder / "sweep.toml"
    file.write_text(SWEEP)
    return file


@pytest.fixture
def database(folder: Path) -> Path:
    """A finished study ``s`` in ``mcusweep.db``."""
    run("sqlite:///mcusweep.db", make_sweep(trials=4), OPTIONS)
    return folder / "mcusweep.db"


def test_launch_runs_a_sweep_and_again_does_nothing_more(sweep_file, capsys):
    assert cli.run(["launch", "sweep.toml"]) == 0
    told = capsys.readouterr().err
    assert "study s: 2 trials done" in told
    assert "trial 1 fake for 32KB flash, 40,000 B SRAM" in told
    assert cli.run(["launch", "sweep.toml", "--quiet"]) == 0
    store = Store("sqlite:///mcusweep.db")
    study = store.study()
    assert store.state_counts(study) == {"complete": 2}
    assert len(store.attempts(study)) == 2
    assert study.sweep_file == SWEEP
    assert study.task == {"name": "toy"}


def test_launch_of_another_sweep_under_the_same_name_shows_the_difference(sweep_file, capsys):
    assert cli.run(["launch", "sweep.toml", "--quiet"]) == 0
    assert cli.run(["launch", "sweep.toml", "--set", "training.epochs=3"]) == 2
    assert "training.epochs: 20 -> 3" in capsys.readouterr().err


def test_a_sweep_whose_trials_all_fail_ends_with_status_1(sweep_file, capsys):
    assert cli.run(["launch", "sweep.toml", "--set", "hyperparameters.error=1"]) == 1
    assert "ZeroDivisionError: something broke" in capsys.readouterr().err


def test_a_sweep_with_failed_trials_ends_with_status_1_and_the_command_that_tries_them_again(sweep_file, capsys):
    errors = ["--set", "hyperparameters.error={choices = [0, 1]}", "--set", "sweep.trials=6", "--set", "sweep.seed=1"]
    assert cli.run(["launch", "sweep.toml", "--quiet", *errors]) == 1
    store = Store("sqlite:///mcusweep.db")
    failed = store.state_counts(store.study())["failed"]
    assert 0 < failed < 6
    said = capsys.readouterr().err.splitlines()[-1]
    again = "mcusweep resume --study s --retry-failed"
    assert said == f"study s: 6 trials done, {failed} failed; retry them with: {again}"
    assert cli.run(["resume", "--retry-failed", "--quiet", "--where", "reason like '%memory%'"]) == 1
    assert capsys.readouterr().err.startswith("0 failed trials are retried\n")
    assert cli.run(["resume", "--retry-failed", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith(f"{failed} failed trials are retried\n")
    assert len(store.attempts(store.study())) == 6 + failed
    assert cli.run(["resume", "--where", "number = 1"]) == 2


def test_a_backup_has_what_a_running_sweep_wrote_last(database, folder, capsys):
    running = Store("sqlite:///mcusweep.db", writing=True)
    running.add_trial(running.study(), 99, running.trials(running.study())[0].spec)
    assert cli.run(["study", "backup", "copy.db"]) == 0
    assert capsys.readouterr().out == "copy.db\n"
    copy = Store("sqlite:///copy.db")
    assert [trial.number for trial in copy.trials(copy.study())][-1] == 99
    assert copy.integrity() == "ok"
    assert cli.run(["study", "backup", "copy.db"]) == 2
    assert cli.run(["study", "backup", "nowhere/copy.db"]) == 2
    running.close()
    assert not (folder / "mcusweep.db-wal").exists()


def test_the_address_may_come_from_the_environment(database, monkeypatch, capsys):
    Path("mcusweep.db").rename("other.db")
    monkeypatch.setenv("MCUSWEEP_STORAGE", "sqlite:///other.db")
    assert cli.run(["query", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("study,number")


def test_no_password_reaches_the_command_that_goes_on_or_the_arguments_of_a_child(store_with_password):
    from orchestrator.cli.sweeping import resume_command
    from orchestrator.running.supervisor import without_secrets

    store, study = store_with_password
    command = resume_command(store, study, RunOptions(workers=2))
    assert "secret" not in command
    assert command.startswith(
        "mcusweep resume --study s --storage postgresql+psycopg://u@h/n --workers 2 (with MCUSWEEP"
    )
    environment: dict[str, str] = {}
    address = "postgresql+psycopg://u:secret@h/n"
    for words in (["launch", "s.toml", "--storage", address], ["launch", "s.toml", f"--storage={address}"]):
        assert without_secrets(words, environment) == ["launch", "s.toml"]
        assert environment.pop("MCUSWEEP_STORAGE") == address
    assert without_secrets(["resume", "--storage=sqlite:///a.db"], environment) == [
        "resume",
        "--storage",
        "sqlite:///a.db",
    ]
    assert environment == {}


def test_interrupted_runs_print_the_exact_command_that_goes_on(sweep_file, capsys, monkeypatch):
    from orchestrator.running.interrupts import Interrupts, Wish

    eager = type("Eager", (Interrupts,), {"wish": property(lambda self: Wish.STOP_NOW, lambda self, value: None)})
    monkeypatch.setattr("orchestrator.running.interrupts.Interrupts", eager)
    arguments = ["launch", "sweep.toml", "--storage", "sqlite:///my runs.db", "--workers", "1", "--quiet"]
    assert cli.run(arguments) == 130
    told = capsys.readouterr().err.strip().splitlines()
    command = "mcusweep resume --study s --storage 'sqlite:///my runs.db' --workers 1"
    assert told == [f"interrupted; results so far are kept; continue with: {command}"]
    monkeypatch.undo()


def test_resume_finishes_what_launch_left(sweep_file, folder, capsys):
    from orchestrator.running.run import begin_study
    from search_spaces.sweep import load_sweep

    store = Store("sqlite:///mcusweep.db", writing=True)
    begin_study(store, load_sweep(sweep_file))
    assert cli.run(["resume", "--quiet"]) == 0
    assert cli.run(["status", "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["done"], answer["planned"], answer["running"]) == (2, 2, None)


def test_a_simulated_launch_is_a_study_of_its_own(sweep_file, capsys):
    assert cli.run(["launch", "sweep.toml", "--executor", "simulated", "--quiet"]) == 0
    assert [study.name for study in Store("sqlite:///mcusweep.db").studies()] == ["s-simulated"]
    assert cli.run(["resume", "--executor", "ray"]) == 2
    assert "cannot be mixed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query"], "no database mcusweep.db"),
        (["status"], "no database mcusweep.db"),
        (["resume"], "no database mcusweep.db"),
        (["launch", "none.toml"], "none.toml: no such file"),
        (["launch"], "Missing argument 'SWEEP.toml'"),
        (["launch", "sweep.toml", "--executor", "cloud"], "executor 'cloud': must be one of ray, local, simulated"),
        (["launch", "sweep.toml", "--set", "methods.names=['magic']"], "unknown method 'magic'"),
        (["launch", "sweep.toml", "--set", "methods.names=['l1']"], "hyperparameters.quality: no method"),
        (["launch", "sweep.toml", "--set", "budgets.list=[{flash='1furlong'}]"], "1furlong"),
        (["launch", "sweep.toml", "--storage", "mysql://x"], "allowed: sqlite:///FILE"),
        (["launch", "sweep.toml", "--storage", "sqlite:////no/such/folder/a.db"], "/no/such/folder does not exist"),
        (["query", "--limit", "x"], "Invalid value for '--limit'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["devices", "--format", "xml"], "--format 'xml': must be table or json"),
        (["measure", "none.tflite"], "none.tflite: cannot be read"),
        (["init", "--device", "z80"], "z80"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(sweep_file, folder, capsys, arguments, said):
    before = set(folder.iterdir())
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert said in captured.err
    assert {path for path in folder.iterdir() if not path.name.startswith("mcusweep.db")} == before


def test_damaged_databases_are_one_line(folder, capsys):
    (folder / "mcusweep.db").write_bytes(b"rubbish" * 1000)
    for command in ("query", "status", "best", "report"):
        assert cli.run([command]) == 2
        assert "not a trial database" in capsys.readouterr().err


def test_query_best_and_show_answer_in_json(database, capsys):
    assert cli.run(["query", "--format", "json", "--sort", "-val_accuracy", "--limit", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["val_accuracy"] for row in rows] == sorted((row["val_accuracy"] for row in rows), reverse=True)
    assert {"accuracy", "sram", "budget_flash", "param.quality", "attempts"} <= set(rows[0])
    assert cli.run(["best", "--flash", "64KB", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["trial"]["number"] == rows[0]["number"]
    assert cli.run(["show", "best", "--flash", "64KB", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == rows[0]["number"]
    assert cli.run(["best"]) == 0
    assert "32KB flash, 40,000 B SRAM" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["query", "--format", "json"], ["best"], ["status"], ["devices"]])
def test_questions_load_neither_torch_nor_ray_and_are_quick(database, arguments):
    code = (
        "import sys, orchestrator.cli.main as cli\n"
        f"status = cli.run({arguments!r})\n"
        "loaded = [m for m in ('torch', 'ray', 'optuna') if m in sys.modules]\n"
        "print(loaded, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert time.perf_counter() - start < 6  # 0.6 s on an idle machine; the tests may share theirs


@pytest.mark.parametrize("command", ["devices", "tasks", "networks", "methods"])
def test_catalogues_print_tables_and_json(capsys, command):
    assert cli.run([command]) == 0
    table = capsys.readouterr().out
    assert cli.run([command, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) >= 2
    assert all(row["name"] in table for row in rows)


def test_init_writes_a_sweep_that_loads_and_refuses_to_overwrite(folder, capsys):
    from search_spaces.sweep import load_sweep

    assert cli.run(["init", "--task", "mnist-5k", "--device", "nrf52840"]) == 0
    assert capsys.readouterr().out == "sweep.toml\n"
    sweep = load_sweep(folder / "sweep.toml")
    assert [budget.device for budget in sweep.planned_budgets()] == ["nrf52840"]
    assert cli.run(["init"]) == 2


def add_trial_of_model(folder, number, noted, stored):
    """A trial whose note of its model is of the bytes ``noted``, while its file holds others."""
    from orchestrator.spec import Artifact, TrialResult

    store = Store("sqlite:///mcusweep.db", writing=True)
    model = folder / "mcusweep-artifacts" / "aa" / "model.tflite"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(stored)
    artifact = Artifact(path="aa/model.tflite", sha256=hashlib.sha256(noted).hexdigest(), bytes=len(noted))
    study = store.study()
    trial = store.add_trial(study, number, store.trials(study)[0].spec)
    store.finish_without_attempt(trial, TrialResult(state="complete", artifacts={"model": artifact}))


def test_export_checks_hashes_and_leaves_nothing_half_written(database, folder, capsys):
    add_trial_of_model(folder, 99, noted=b"a model", stored=b"no model at all")
    assert cli.run(["export", "99", "--output", "out"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert cli.run(["export", "0", "--output", "out"]) == 2
    assert "has no file 'model'" in capsys.readouterr().err


def test_an_export_clears_away_what_a_killed_one_left(database, folder, capsys):
    left = [folder / "out" / name for name in (".partial-killed", ".partial-running")]
    for path in left:
        (path / "firmware").mkdir(parents=True)
    os.utime(left[0], (0, 0))
    add_trial_of_model(folder, 98, noted=b"no model", stored=b"no model")
    assert cli.run(["export", "98", "--output", "out"]) == 2
    assert "not a readable .tflite file" in capsys.readouterr().err
    assert [path.exists() for path in left] == [False, True]


def test_many_columns_fit_any_terminal_one_below_the_other(database, capsys):
    assert cli.run(["query", "--vertical", "--columns", "number,study,val_accuracy,flash,reason"]) == 0
    first, *rest = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in first.splitlines()] == ["number", "study", "val_accuracy", "flash", "reason"]
    assert first.splitlines()[0] == "number        0"
    assert rest
    assert cli.run(["query", "--format", "vertical"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 90
