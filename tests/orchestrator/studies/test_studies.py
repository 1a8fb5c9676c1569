"""Whole studies: exported, imported, merged without doubles, compared, deleted, pruned."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from fake_sweep import make_sweep, run

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.queries.study_diff import diff_studies
from orchestrator.running.run import begin_study
from orchestrator.spec import Artifact, EpochReport
from orchestrator.storage.connection import artifact_root
from orchestrator.storage.store import Store, Study
from orchestrator.studies.bundle import StudyBundle, bundle_of, write_zip
from orchestrator.studies.bundle_file import read_zip
from orchestrator.studies.merge import bring_in, delete_study
from orchestrator.studies.prune import find_waste, prune
from search_spaces.sweep import SweepConfig

SWEEP = {"sweep": {"name": "s", "seed": 0}, "budgets": {"list": [{"flash": 65536}]}}


@pytest.fixture
def make_store(tmp_path, make_spec, result):
    """A database with one study ``s`` of some seeds; ``unfinished`` seeds are planned only."""

    def make(name: str, seeds=(0, 1, 2), unfinished=(), planned: int = 4, sweep=SWEEP) -> Store:
        store = Store(f"sqlite:///{tmp_path}/{name}.db", writing=True)
        study = store.create_study(Study(0, "s", sweep, None, {}, planned, {"python": "3"}, {"cpus": 2}, ""))
        for number, seed in enumerate(sorted([*seeds, *unfinished])):
            spec = make_spec(seed=seed, quality=0.5)
            trial = store.add_trial(study, number, spec)
            if seed in unfinished:
                continue
            attempt = store.begin_attempt(trial)
            store.note_worker(attempt, "host", 7)
            store.add_report(attempt, EpochReport(step=1, epochs_done=1.0, val_accuracy=0.5))
            data = f"model of seed {seed}".encode()
            path = artifact_root(store.url) / spec.hash() / "model.tflite"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            note = Artifact(
                path=f"{spec.hash()}/model.tflite", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)
            )
            better = {"val_accuracy": 0.5 + seed / 100, "artifacts": {"model": note}}
            assert store.finish_attempt(attempt, result.model_copy(update=better))
        return store

    return make


def seeds_of(store: Store) -> list[int]:
    return [trial.spec.seed for trial in store.trials(store.study("s"))]


def test_an_exported_study_comes_back_whole_and_only_once(make_store, tmp_path):
    store = make_store("a", unfinished=(3,))
    bundle = bundle_of(store, store.study("s"))
    assert write_zip(bundle, tmp_path / "s.zip") == []
    other = Store(f"sqlite:///{tmp_path}/b.db", writing=True)
    merged = bring_in(other, read_zip(tmp_path / "s.zip"), new=True, trusted=True)
    assert (merged.added, merged.known, merged.unfinished, merged.missing) == (3, 0, 1, ())
    for ours, theirs in zip(store.trials(store.study("s")), other.trials(other.study("s")), strict=False):
        assert (ours.number, ours.spec, ours.result) == (theirs.number, theirs.spec, theirs.result)
    drop = ("id", "trial_id", "attempt_id")
    for read in (Store.attempts, Store.epoch_reports):
        rows = [
            [{key: value for key, value in row.items() if key not in drop} for row in read(each, each.study("s"))]
            for each in (store, other)
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 3
    for trial in other.trials(other.study("s")):
        note = trial.result.artifacts["model"]
        assert hashlib.sha256((artifact_root(other.url) / note.path).read_bytes()).hexdigest() == note.sha256
    with pytest.raises(InputError, match=r"study 's' is in .*b\.db already; give --name NAME, or merge"):
        bring_in(other, read_zip(tmp_path / "s.zip"), new=True)
    assert bring_in(other, read_zip(tmp_path / "s.zip"), "t", new=True).added == 3


def test_merging_doubles_no_trial_and_fills_in_what_was_planned(make_store):
    ours, theirs = make_store("a", seeds=(0, 1), unfinished=(2,)), make_store("b", seeds=(1, 2, 3))
    theirs.note_versions(theirs.study("s"), {"mcusweep": "0.0.9"})
    bundle = bundle_of(theirs, theirs.study("s"))
    merged = bring_in(ours, bundle)
    assert (merged.added, merged.filled, merged.known) == (1, 1, 1)
    assert ours.study("s").versions["merged"] == ["0.0.9", "unknown"]
    assert seeds_of(ours) == [0, 1, 2, 3]
    assert [trial.state for trial in ours.trials(ours.study("s"))] == ["complete"] * 4
    again = bring_in(ours, bundle)
    assert (again.added, again.filled, again.known) == (0, 0, 3)
    assert seeds_of(ours) == [0, 1, 2, 3]


def test_a_trial_that_is_not_of_this_plan_gets_a_number_behind_it(make_store):
    ours, theirs = make_store("a", seeds=(0, 1)), make_store("b", seeds=(5, 6))
    bring_in(ours, bundle_of(theirs, theirs.study("s")))
    assert [trial.number for trial in ours.trials(ours.study("s"))] == [0, 1, 4, 5]


def test_equal_trials_with_other_bytes_keep_both_files(make_store, tmp_path):
    ours, theirs = make_store("a", seeds=(0,)), make_store("b", seeds=(1,))
    spec_hash = theirs.trials(theirs.study("s"))[0].spec.hash()
    stray = artifact_root(ours.url) / spec_hash / "model.tflite"
    stray.parent.mkdir()
    stray.write_bytes(b"something else")
    bring_in(ours, bundle_of(theirs, theirs.study("s")))
    note = ours.trials(ours.study("s"))[1].result.artifacts["model"]
    assert (artifact_root(ours.url) / note.path).read_bytes() == b"model of seed 1"
    assert stray.read_bytes() == b"something else"


def test_studies_of_different_sweeps_do_not_mix(make_store):
    ours = make_store("a")
    theirs = make_store("b", sweep=SWEEP | {"budgets": {"list": [{"flash": 1024}]}})
    with pytest.raises(InputError, match=r"made from another sweep: budgets\.list"):
        bring_in(ours, bundle_of(theirs, theirs.study("s")))
    assert len(seeds_of(ours)) == 3


def test_a_study_that_is_being_run_is_left_alone(make_store):
    ours, theirs = make_store("a"), make_store("b")
    with ours.lock("s"), pytest.raises(InputError, match="is being run by process"):
        bring_in(ours, bundle_of(theirs, theirs.study("s")))


def rewritten(path: Path, change) -> Path:
    """The exported study with its lines changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rows = [json.loads(line) for line in parts["trials.jsonl"].splitlines()]
    change(rows)
    parts["trials.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].update(spec_hash="0" * 64), "specification and number do not agree"),
        (lambda rows: rows[1].update(number=0), "specification and number do not agree"),
        (lambda rows: rows[0].pop("method"), "does not have the columns of this version: method"),
        (lambda rows: rows[0].update(state="rm -rf"), "is damaged"),
        (lambda rows: rows[0].update(spec_json="{}"), "is damaged"),
        (lambda rows: rows[0]["attempt_rows"][0].update(evil=1), "an attempt does not have the columns"),
        (
            lambda rows: rows[0].update(artifacts_json=rows[0]["artifacts_json"].replace('"path":"', '"path":"../../')),
            "is none that a trial has",
        ),
    ],
)
def test_damaged_exports_are_refused_in_one_line(make_store, tmp_path, change, said):
    store = make_store("a")
    write_zip(bundle_of(store, store.study("s")), tmp_path / "s.zip")
    with pytest.raises(InputError) as error:
        read_zip(rewritten(tmp_path / "s.zip", change))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_rubbish_is_no_exported_study(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"rubbish" * 100)
    with pytest.raises(InputError, match="is not an exported study"):
        read_zip(tmp_path / "x.zip")


def test_a_changed_file_is_not_brought_in(make_store, tmp_path):
    ours, theirs = make_store("a", seeds=(0,)), make_store("b", seeds=(1,))
    note = theirs.trials(theirs.study("s"))[0].result.artifacts["model"]
    (artifact_root(theirs.url) / note.path).write_bytes(b"changed")
    assert bring_in(ours, bundle_of(theirs, theirs.study("s"))).missing == (note.path,)


def test_diff_tells_shared_trials_and_results_that_disagree(make_store, result):
    ours, theirs = make_store("a", seeds=(0, 1)), make_store("b", seeds=(1, 2), sweep=SWEEP | {"task": {"name": "x"}})
    answer = diff_studies((ours, ours.study("s")), (theirs, theirs.study("s")))
    assert (answer.shared, answer.only_first, answer.only_second, answer.disagreeing) == (1, 1, 1, [])
    assert answer.sweep == ['task: null -> {"name": "x"}']
    assert [(cell["first_trials"], cell["second_trials"]) for cell in answer.cells] == [(2, 2)]
    with theirs.engine.begin() as connection:
        connection.exec_driver_sql("update mcusweep_trials set flash = 1 where seed = 1")
    (row,) = diff_studies((ours, ours.study("s")), (theirs, theirs.study("s"))).disagreeing
    assert (row["first"], row["second"], row["flash"]) == (1, 0, [60000, 1])


def test_deleting_a_study_leaves_the_others(make_store):
    store = make_store("a")
    store.create_study(Study(0, "t", {}, None, {}, 1, {}, {}, ""))
    assert delete_study(store, store.study("s")) == 3
    assert [study.name for study in store.studies()] == ["t"]


def test_prune_takes_stray_files_and_leaves_the_front_whole(make_store):
    store = make_store("a", unfinished=(3,))
    root = artifact_root(store.url)
    (root / "stray").mkdir()
    (root / "stray" / "file").write_text("x")
    unfinished = root / store.trials(store.study("s"))[3].spec.hash()
    unfinished.mkdir()
    (unfinished / "checkpoint").write_text("keep")
    assert find_waste(store, details=False, models=False).files == [(root / "stray" / "file").resolve()]
    prune(store, find_waste(store, details=True, models=True))
    assert not (root / "stray").exists()
    assert (unfinished / "checkpoint").exists()
    kept = [trial for trial in store.trials(store.study("s")) if trial.spec.seed == 2]
    assert (root / kept[0].result.artifacts["model"].path).exists()
    assert len(list(root.rglob("model.tflite"))) == 1
    assert [row["number"] for row in store.epoch_reports(store.study("s"))] == [2]
    assert len(store.trials(store.study("s"))) == 4


@pytest.mark.parametrize("finished", [False, True])
def test_prune_keeps_the_networks_that_trials_to_come_may_begin_with(tmp_path, finished):
    storage = f"sqlite:///{tmp_path}/tree.db"
    budgets = {"list": [{"flash": 60_000}, {"flash": 30_000}]}
    sweep = SweepConfig.model_validate(
        make_sweep(methods=("heir",), trials=2).model_dump(mode="json")
        | {"budgets": budgets, "lineage": {"enabled": True}}
    )
    run(storage, sweep)
    store = Store(storage, writing=True)
    if not finished:
        longer = sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"trials": 4})})
        begin_study(store, longer, extend=True)
    files = sorted(artifact_root(store.url).rglob("network.safetensors"))
    assert len(files) == 3
    prune(store, find_waste(store, details=False, models=True))
    assert [file.exists() for file in files].count(True) == (1 if finished else 3)


def test_the_commands_do_it_from_a_shell(make_store, tmp_path, monkeypatch, capsys):
    make_store("a").close()
    make_store("b", seeds=(2, 3)).close()
    monkeypatch.chdir(tmp_path)
    a, b = "sqlite:///a.db", "sqlite:///b.db"
    assert cli.run(["study", "export", "s", "--storage", b]) == 0
    assert capsys.readouterr().out == "s.zip\n"
    assert cli.run(["study", "import", "s.zip", "--name", "t", "--storage", a]) == 0
    assert cli.run(["study", "merge", "b.db", "--storage", a]) == 0
    assert capsys.readouterr().out == "study t: 2 added, 0 known already\nstudy s: 1 added, 1 known already\n"
    assert cli.run(["query", "--study", "s,t", "--storage", a, "--columns", "study,seed", "--format", "csv"]) == 0
    assert capsys.readouterr().out.split() == ["study,seed", "s,0", "s,1", "s,2", "s,3", "t,2", "t,3"]
    assert (
        cli.run(["query", "--study", "s", "--study", "t", "--group", "study", "--storage", a, "--format", "csv"]) == 0
    )
    assert [line.split(",")[:2] for line in capsys.readouterr().out.split()[1:]] == [["s", "4"], ["t", "2"]]
    assert cli.run(["query", "--studies", "--format", "json", "--storage", a]) == 0
    assert [row["study"] for row in json.loads(capsys.readouterr().out)] == ["s", "t"]
    assert cli.run(["diff", "s", "t", "--format", "json", "--storage", a]) == 0
    assert json.loads(capsys.readouterr().out)["shared"] == 2
    assert cli.run(["compare", "s#0", "t#1", "--format", "json", "--storage", a]) == 0
    assert {row["field"] for row in json.loads(capsys.readouterr().out)} >= {"val_accuracy", "seed", "study"}
    assert cli.run(["study", "delete", "t", "--storage", a]) == 0
    assert "give --yes" in capsys.readouterr().out
    assert cli.run(["study", "delete", "t", "--yes", "--storage", a]) == 0
    assert cli.run(["study", "prune", "--storage", a]) == 0
    assert "would remove 1 stray files" in capsys.readouterr().out
    assert cli.run(["study", "merge", "a.db", "--storage", a]) == 2
    assert "is the same database" in capsys.readouterr().err


def test_a_merged_study_goes_on_where_it_stands(tmp_path, make_store):
    a, b = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/second.db"
    run(a, make_sweep(trials=4))
    whole = bundle_of(Store(a), Store(a).study("s"))
    alien = bundle_of(other := make_store("c", seeds=(7,)), other.study("s")).rows
    half = StudyBundle(
        whole.study, [*list(whole.rows)[::2], *(row | {"number": 9} for row in alien)], lambda path: None
    )
    there = Store(b, writing=True)
    assert bring_in(there, half, new=True).added == 3
    assert run(b, make_sweep(trials=4)).finished
    assert [trial.number for trial in there.trials(there.study("s"))] == [0, 1, 2, 3, 4]
    assert [row["number"] for row in there.attempts(there.study("s"))].count(0) == 1
    assert run(b, make_sweep(trials=4)).counts == {"complete": 5}
    answer = diff_studies((Store(a), Store(a).study("s")), (there, there.study("s")))
    assert (answer.shared, answer.only_second, answer.disagreeing) == (4, 1, [])
