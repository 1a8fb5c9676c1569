"""What comes from strangers is data: never code, never taken for ours, and what is refused is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fake_sweep import make_sweep, run

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.running.run import left_network
from orchestrator.spec import FILES, NETWORK
from orchestrator.storage.artifacts import MARKER, artifact_folder, artifacts_of, claim_folder
from orchestrator.storage.store import Store
from orchestrator.studies.bundle import StudyBundle, bundle_of, write_zip
from orchestrator.studies.bundle_file import read_zip
from orchestrator.studies.damage import naming_damage
from orchestrator.studies.merge import bring_in
from orchestrator.studies.prune import find_waste, prune
from search_spaces.sweep import SweepConfig


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A study of three trials, one of them a dense network that others begin with, as a zip file."""
    folder = tmp_path_factory.mktemp("exported")
    sweep = make_sweep(methods=("heir",), trials=2).model_dump(mode="json")
    sweep |= {"budgets": {"list": [{"flash": 60_000}, {"flash": 30_000}]}, "lineage": {"enabled": True}}
    run(f"sqlite:///{folder}/t.db", SweepConfig.model_validate(sweep))
    store = Store(f"sqlite:///{folder}/t.db")
    assert write_zip(bundle_of(store, store.study()), folder / "s.zip") == []
    return folder / "s.zip"


def changed(source: Path, target: Path, head=lambda head: None, rows=lambda rows: None, members=None) -> Path:
    """The zip file with its study, its trials or its members changed."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    study, trials = json.loads(parts["study.json"]), [json.loads(line) for line in parts["trials.jsonl"].splitlines()]
    head(study["study"])
    rows(trials)
    parts["study.json"] = json.dumps(study).encode()
    parts["trials.jsonl"] = "".join(json.dumps(row) + "\n" for row in trials).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (parts | (members or {})).items():
            archive.writestr(name, data)
    return target


def planted(path: str):
    def change(rows) -> None:
        files = json.loads(rows[0]["artifacts_json"])
        files[NETWORK]["path"] = path.replace("SPEC", rows[0]["spec_hash"])
        rows[0]["artifacts_json"] = json.dumps(files)

    return change


DEEP = "[" * 100_000 + "]" * 100_000
REFUSED = [
    ({"rows": planted("parents/0123456789abcdef/trained")}, "is none that a trial has"),
    ({"rows": planted("SPEC/checkpoint.json")}, "is none that a trial has"),
    ({"rows": planted("SPEC/model.tflite")}, "is none that a trial has"),
    ({"rows": planted("/etc/network.safetensors")}, "is none that a trial has"),
    ({"rows": planted("f" * 64 + "/network.safetensors")}, "lies in the folder of another trial"),
    ({"members": {"artifacts/parents/x/trained": b"x"}}, "no trial has the file 'artifacts/parents/x/trained'"),
    ({"members": {"evil.py": b"x"}}, "it holds 'evil.py'"),
    ({"members": {"study.json": b" " * (40 * 2**20)}}, "study.json is longer than"),
    ({"members": {"trials.jsonl": b" " * (40 * 2**20)}}, "a line of trials.jsonl is longer than"),
    ({"members": {"trials.jsonl": DEEP.encode()}}, "nested too deeply"),
    ({"members": {"study.json": DEEP.encode()}}, "nested too deeply"),
    ({"rows": lambda rows: rows[0].update(trajectory_json=DEEP)}, "nested too deeply"),
    ({"rows": lambda rows: rows[0].update(widths_json=DEEP)}, "nested too deeply"),
    ({"rows": lambda rows: rows[0].update(flash="much")}, "flash cannot be 'much'"),
    ({"rows": lambda rows: rows[0].update(flash=2**70)}, "flash cannot be"),
    ({"rows": lambda rows: rows[0].update(accuracy=float("inf"))}, "Infinity is no number"),
    ({"rows": lambda rows: rows[0].update(reason="\ud800")}, "reason cannot be"),
    ({"rows": lambda rows: rows[0].update(seed=12345)}, "do not agree with the rest (seed)"),
    ({"head": lambda study: study.update(name="")}, "'' is no name of a study"),
    ({"head": lambda study: study.update(name=".")}, "'.' is no name of a study"),
    ({"head": lambda study: study.update(name="n" * 5000)}, "name cannot be 'nnnn"),
    ({"head": lambda study: study.update(name={"a": 1})}, "name cannot be {'a': 1}"),
    ({"head": lambda study: study.update(sweep_json="[]")}, "an object is missing"),
    ({"head": lambda study: study.update(workers_json='{"count": Infinity}')}, "Out of range float values"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_a_bundle_that_this_program_would_not_have_written_is_refused_whole(
    exported, tmp_path, monkeypatch, capsys, change, said
):
    changed(exported, tmp_path / "x.zip", **change)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["study", "import", "x.zip"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert len(error) < 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip"]


def test_a_file_that_is_longer_than_it_says_is_not_read_on(exported, tmp_path):
    with zipfile.ZipFile(exported) as archive:
        name = next(name for name in archive.namelist() if name.endswith("network.safetensors"))
    changed(exported, tmp_path / "x.zip", members={name: b"\0" * (64 * 2**20)})
    bundle = read_zip(tmp_path / "x.zip")
    note = bundle.files()[name.removeprefix("artifacts/")]
    assert (note.bytes, bundle.read(note)) == (32, None)


def test_a_pipe_is_no_bundle(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(InputError, match="it is no file"):
        read_zip(tmp_path / "x.zip")


def test_what_was_imported_is_shown_but_neither_reused_nor_begun_with_until_it_is_trusted(exported, tmp_path, capsys):
    storage = f"sqlite:///{tmp_path}/mine.db"
    store = Store(storage, writing=True)
    bring_in(store, read_zip(exported), new=True)
    study = store.study()
    trials = store.trials(study)
    assert len(trials) == 3
    assert all(store.equal_result(trial.spec.hash()) is None for trial in trials)
    assert not any(left_network(artifacts_of(store), study)(trial.result) for trial in trials)
    assert not list(artifact_folder(store).glob("[0-9a-f]*"))  # where a worker looks for what it begins with
    assert cli.run(["resume", "--trust", "--storage", storage, "--executor", "local"]) == 0
    trials = store.trials(study)
    assert all(store.equal_result(trial.spec.hash()) is not None for trial in trials)
    assert all(left_network(artifacts_of(store), study)(trial.result) for trial in trials)
    assert (artifact_folder(store) / trials[0].spec.hash() / FILES[NETWORK]).is_file()


def test_an_import_that_is_cut_off_leaves_nothing_and_can_be_repeated(exported, tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mine.db", writing=True)
    whole = read_zip(exported)

    class Cut:
        turns = 0

        def __iter__(self):
            Cut.turns += 1
            for at, row in enumerate(whole.rows):
                if Cut.turns == 2 and at == 2:  # the files lie there, two trials are written
                    raise KeyboardInterrupt
                yield row

    with pytest.raises(KeyboardInterrupt):
        bring_in(store, StudyBundle(whole.study, Cut(), whole.read), new=True)
    assert store.studies() == []
    assert not store.has_trials()
    assert bring_in(store, whole, new=True).added == 3


@pytest.mark.parametrize(
    ("name", "base"), [("subprocess:getoutput", None), ("subprocess:getoutput", os.path.dirname(subprocess.__file__))]
)
def test_functions_that_an_imported_sweep_names_are_shown_and_those_of_packages_never_run(
    exported, tmp_path, capsys, name, base
):
    def evil(study) -> None:
        sweep = json.loads(study["sweep_json"])
        sweep["network"] |= {"name": name, "options": {"cmd": f"touch {tmp_path}/ran"}, "base": base}
        study.update(sweep_json=json.dumps(sweep), planned_trials=4)

    changed(exported, tmp_path / "x.zip", head=evil)
    storage = ["--storage", f"sqlite:///{tmp_path}/mine.db"]
    assert cli.run(["study", "import", str(tmp_path / "x.zip"), *storage]) == 0
    assert cli.run(["resume", *storage]) == 2
    assert "runs functions of its own: subprocess:getoutput of" in capsys.readouterr().err
    assert cli.run(["resume", "--trust", *storage]) == 2
    assert "those of installed packages are not run" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_prune_leaves_a_folder_alone_in_which_another_database_may_have_files(tmp_path):
    names = ("runs.db", "runs.sqlite")
    for name in names:
        run(f"sqlite:///{tmp_path}/{name}", make_sweep(methods=("heir",), trials=1))
    first, second = (Store(f"sqlite:///{tmp_path}/{name}", writing=True) for name in names)
    assert artifact_folder(first) == tmp_path / "runs-artifacts"
    assert artifact_folder(second) == tmp_path / "runs.sqlite-artifacts"
    stray = artifact_folder(first) / "stray"
    stray.write_text("x")
    prune(first, find_waste(first, details=False, models=False))
    assert not stray.exists()
    assert (artifact_folder(first) / MARKER).is_file()
    (tmp_path / "runs-artifacts" / MARKER).unlink()
    for store in (first, second):  # as an older version left them: one folder, and nobody's mark on it
        with store.engine.begin() as connection:
            connection.exec_driver_sql("delete from mcusweep_meta where key <> 'schema_version'")
    stray.write_text("x")
    with pytest.raises(InputError, match=r"also holds the files of .*runs\.sqlite; nothing is removed"):
        prune(first, find_waste(first, details=False, models=False))
    assert stray.exists()


def test_files_are_found_from_any_folder_and_move_with_their_database(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    store = Store("sqlite:///s.db", writing=True)
    folder = claim_folder(store)
    monkeypatch.chdir(tmp_path)
    assert artifact_folder(Store("sqlite:///a/s.db")) == folder == tmp_path / "a" / "s-artifacts"
    store.close()
    (tmp_path / "a" / "s.db").rename(tmp_path / "moved.db")
    assert artifact_folder(Store("sqlite:///moved.db")) == folder
    folder.rename(tmp_path / "moved-artifacts")
    assert artifact_folder(Store("sqlite:///moved.db")) == tmp_path / "moved-artifacts"


def test_a_model_that_crashes_the_interpreter_is_one_line(tmp_path):
    case = Path(__file__).parents[3].parent / "shared" / "cases" / "measure-aborts" / "abort_m307.tflite"
    if not case.is_file():
        pytest.skip(f"NOT TESTED: {case} is not here")
    command = [sys.executable, "-m", "mcusweep", "measure", str(case)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "crashes on it (SIGABRT)" in done.stderr


@pytest.mark.parametrize(
    ("statement", "command", "said"),
    [
        (
            "update mcusweep_trials set flash = '{}' where number = 1",
            "report",
            "trial 1 is damaged: flash cannot be '{}'",
        ),
        ("update mcusweep_trials set widths_json = '[1' where number = 0", "show", "trial 0 is damaged"),
        ("update mcusweep_studies set task_json = '0.5'", "report", "is damaged (an object is missing)"),
        ("update mcusweep_studies set machine_json = '5'", "report", "is damaged (an object is missing)"),
        ("""update mcusweep_studies set task_json = '{"least": {"a": 1}}'""", "resume", "are damaged: 'least': Input"),
        ("update mcusweep_studies set sweep_json = '{}'", "best", "is damaged"),
        ("update mcusweep_trials set method = cast(x'ff' as text)", "query", "is damaged or not a trial database"),
    ],
)
def test_the_command_that_stumbles_over_a_damaged_row_names_it(
    exported, tmp_path, monkeypatch, capsys, statement, command, said
):
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///mcusweep.db", writing=True)
    bring_in(store, read_zip(exported), new=True)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    store.close()
    assert cli.run([command, *{"show": ["0"], "report": ["--output", "page"]}.get(command, [])]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_schema_that_is_no_text_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Store("sqlite:///mcusweep.db", writing=True).close()
    data = Path("mcusweep.db").read_bytes()
    Path("mcusweep.db").write_bytes(data.replace(b"CREATE TABLE mcusweep_meta", b"CREATE TABLE mcusweep\xd5meta"))
    assert cli.run(["query"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_an_error_of_a_command_without_a_database_is_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @naming_damage
    def command(storage: str) -> None:
        raise MemoryError("of the command")

    with pytest.raises(MemoryError, match="of the command"):
        command(storage="sqlite:///mcusweep.db")
