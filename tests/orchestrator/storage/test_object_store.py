"""The trials' files in a real object store: written before a trial is done, and read from anywhere, by hash."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_sweep import make_sweep
from scripted import good, scripted
from servers import ftp_server, s3_server

from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished
from orchestrator.object_store import ObjectStore, ObjectStoreError
from orchestrator.spec import FILES, NETWORK
from orchestrator.storage.artifacts import MARKER, artifacts_of, claim_artifacts
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig, check_table


@pytest.fixture(params=["ftp", "s3"])
def bucket(request, tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a folder in a store; passwords are where the user of fsspec keeps them."""
    monkeypatch.chdir(tmp_path)
    if request.param == "ftp":
        pytest.importorskip("pyftpdlib", reason="no FTP server here: pip install pyftpdlib")
        (tmp_path / "served").mkdir()
        import fsspec.config

        monkeypatch.setitem(fsspec.config.conf, "ftp", {"username": "u", "password": "p"})
        server = ftp_server(tmp_path / "served")
    else:
        pytest.importorskip("moto.server", reason="no S3 server here: pip install s3fs 'moto[s3]' flask flask-cors")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        server = s3_server()
    with server as address:
        yield f"{address}/sweeps"


def networks(folder: str):
    """A script whose trials leave a network each."""
    import fake_worker

    def script(attempt, spec, nth):
        _, files = fake_worker.inherit(spec, Path(folder))
        return [Finished(attempt, good(spec).model_copy(update={"artifacts": files, "feasible": True}))]

    return script


def sweep_into(url: str) -> SweepConfig:
    sweep = make_sweep(trials=3, methods=("heir",)).model_dump(mode="json")
    return SweepConfig.model_validate(sweep | {"workers": {"executor": "local", "artifacts": url}})


def test_a_sweep_keeps_its_files_in_an_object_store_from_which_every_command_reads(
    bucket, tmp_path, capsys, monkeypatch
):
    report, _ = scripted("sqlite:///s.db", sweep_into(f"{bucket}/"), networks("s-artifacts"))
    assert report.counts == {"complete": 3}
    store = Store("sqlite:///s.db", writing=True)
    assert artifacts_of(store).remote is None  # a stranger's database does not say where credentials go
    monkeypatch.setenv("MCUSWEEP_ARTIFACTS", bucket)
    files, trials = artifacts_of(store), store.trials(store.study())
    notes = [trial.result.artifacts[NETWORK] for trial in trials]
    assert files.remote.names() == sorted([MARKER, *(note.path for note in notes)])
    files.remote.write({"stray/model": b"of nobody"})
    shutil.rmtree("s-artifacts")  # another machine has the database alone
    for note in notes:
        assert len(files.read(note.path, note.sha256, "a trial")) == note.bytes
    assert not Path("s-artifacts").exists()  # asking writes nothing
    for words in (["show", "0"], ["report", "--output", "page"], ["study", "export", "s"]):
        assert cli.run(words[:2] + words[2:] + ["--storage", "sqlite:///s.db"]) == 0, capsys.readouterr().err
    assert "left out" not in capsys.readouterr().err
    assert cli.run(["study", "import", "s.zip", "--trust", "--storage", "sqlite:///other.db"]) == 0
    assert (tmp_path / "other-artifacts" / notes[0].path).is_file()

    monkeypatch.delenv("MCUSWEEP_ARTIFACTS")
    shutil.rmtree("s-artifacts", ignore_errors=True)
    with pytest.raises(InputError, match=r"no such file; to read it in .*sweeps set MCUSWEEP_ARTIFACTS to that"):
        artifacts_of(store).read(notes[0].path, notes[0].sha256, "trial 0")
    monkeypatch.setenv("MCUSWEEP_ARTIFACTS", bucket)
    other = Store("sqlite:///other.db", writing=True)
    with pytest.raises(InputError, match="holds the files of another database"):
        claim_artifacts(other, bucket)
    with pytest.raises(InputError, match=r"\[workers\] artifacts = 'ftp://elsewhere/x': the files of s.db lie in "):
        claim_artifacts(store, "ftp://elsewhere/x")
    files.remote.write({notes[1].path: b"changed"})
    with pytest.raises(InputError, match="is damaged: its SHA-256"):
        files.read(notes[1].path, notes[1].sha256, "trial 1")
    with pytest.raises(InputError, match="lies outside"):
        files.read("../s.db", notes[1].sha256, "trial 1")
    files.remote.remove([notes[1].path])
    with pytest.raises(InputError, match="no such file"):
        files.read(notes[1].path, notes[1].sha256, "trial 1")
    assert cli.run(["study", "prune", "--yes", "--storage", "sqlite:///s.db"]) == 0
    assert files.remote.names() == sorted([MARKER, notes[0].path, notes[2].path])
    store.close()


def test_a_trial_is_not_done_before_its_files_are_in_the_store(bucket, monkeypatch):
    class Full(ObjectStore):
        def write(self, files):
            if MARKER not in files and len(sent) == 1:
                raise ObjectStoreError(f"{self.url} cannot be written: full")
            sent.extend(files) if MARKER not in files else None
            super().write(files)

    sent: list[str] = []
    monkeypatch.setattr("orchestrator.storage.artifacts.ObjectStore", Full)
    with pytest.raises(ObjectStoreError, match="cannot be written: full"):
        scripted("sqlite:///s.db", sweep_into(bucket), networks("s-artifacts"))
    store = Store("sqlite:///s.db")
    assert store.state_counts(store.study())["complete"] == 1
    monkeypatch.undo()
    assert sent[0].endswith(FILES[NETWORK])


def test_a_store_that_is_away_or_unknown_is_one_line(tmp_path):
    waits: list[float] = []
    away = ObjectStore("ftp://127.0.0.1:9/x", 3, waits.append)
    with pytest.raises(ObjectStoreError, match=r"^ftp://127.0.0.1:9/x cannot be read: .*refused"):
        away.read("a")
    assert waits == [0.5, 1.0]
    with pytest.raises(InputError, match=r"^nosuch://x: .*; pip install 'mcusweep\[remote\]'"):
        ObjectStore("nosuch://x").read("a")
    for url, said in {"ftp://u:secret@h/x": "must not contain a password", "folder": "must be the URL"}.items():
        sections = {"sweep": {"name": "s", "trials": 1}, "task": {"name": "digits"}, "network": {"name": "resnet8"}}
        sections |= {"budgets": {"list": [{"flash": 65536}]}, "workers": {"artifacts": url}}
        with pytest.raises(InputError, match=said) as caught:
            check_table(sections, "sweep")
        assert "secret" not in str(caught.value)
