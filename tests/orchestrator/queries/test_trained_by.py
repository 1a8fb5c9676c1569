"""Which version of mcusweep trained what, where a user has updated between sweeps."""

from __future__ import annotations

import sqlite3

import pytest
from fake_sweep import make_sweep
from scripted import scripted

from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished
from orchestrator.provenance import check_versions, engine_at, with_driver, with_merged
from orchestrator.queries.trained_by import TrainedBy, trained_by, versions_line
from orchestrator.running import run
from orchestrator.spec import TrialResult
from orchestrator.storage.store import Store
from orchestrator.studies.retry import plan_failed_again

OLD, NEW = "0.0.8", "0.0.9"


@pytest.fixture
def running(monkeypatch):
    def at(version):
        monkeypatch.setattr(run, "package_versions", lambda: {"mcusweep": version, "torch": "2"})
        monkeypatch.setattr("orchestrator.queries.trained_by.version", lambda name: version)

    return at


def renamed(sweep, name, trials):
    return sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"name": name, "trials": trials})})


def found(storage, name):
    store = Store(storage)
    return trained_by(store, store.study(name))


def test_reused_results_are_told_to_be_of_the_version_that_trained_them(storage, running, capsys, tmp_path):
    sweep = make_sweep(trials=3)
    running(OLD)
    scripted(storage, sweep)
    assert found(storage, "s") == (TrainedBy(OLD, 3, 0),)
    assert versions_line(found(storage, "s")) is None
    running(NEW)
    scripted(storage, renamed(sweep, "t", 4))
    scripted(storage, renamed(sweep, "u", 4))
    told = f"trials by version of mcusweep that trained them: {OLD}: 3 (3 reused), {NEW}: 1"
    assert versions_line(found(storage, "t")) == f"{told}; this is {NEW}"
    assert versions_line(found(storage, "u")) == f"{told} (1 reused); this is {NEW}"
    assert versions_line(found(storage, "s")) is None
    capsys.readouterr()
    assert cli.run(["status", "--storage", storage, "--study", "t"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())
    assert cli.run(["report", "--storage", storage, "--study", "t", "--output", str(tmp_path / "r")]) == 0
    assert told in (tmp_path / "r" / "index.html").read_text()


def test_a_study_that_went_on_with_another_version_is_shown_as_such(storage, running):
    sweep = make_sweep(trials=2)
    running(OLD)
    scripted(storage, sweep, lambda attempt, spec, nth: [Finished(attempt, TrialResult(state="failed", reason="luck"))])
    before = Store(storage).study("s").versions
    store = Store(storage, writing=True)
    plan_failed_again(store, store.study("s"), "number = 0")
    store.close()
    running(NEW)
    scripted(storage, sweep)
    versions = Store(storage).study("s").versions
    assert {name: versions[name] for name in before} == before
    assert (engine_at(versions, "2020"), engine_at(versions, "2999")) == (OLD, NEW)
    assert with_driver(versions, {"mcusweep": NEW, "torch": "2"}, "2999") == versions
    assert found(storage, "s") == (TrainedBy(NEW, 1, 0),)


def test_times_of_merged_trials_say_nothing_about_their_version():
    newer = {"mcusweep": NEW, "python": "3"}
    both = with_merged({"mcusweep": OLD}, newer)
    assert engine_at(both, "2999") == f"{OLD} or {NEW}"
    assert with_merged(both, {"mcusweep": OLD}) == both
    assert with_merged(newer, newer) == newer


@pytest.mark.parametrize(
    "versions",
    [{"mcusweep": 1}, {"later": 5}, {"later": {"2026": "0.1"}}, {"later": {"2026": {"mcusweep": []}}}, {"merged": [2]}],
)
def test_versions_of_strangers_are_checked(versions):
    with pytest.raises(ValueError, match="versions"):
        check_versions(versions)


def test_an_origin_that_is_gone_or_goes_in_circles_is_unknown(storage, running):
    running(OLD)
    scripted(storage, make_sweep(trials=3))
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as file:
        for number, origin in enumerate(("gone#0", "s#1", "s")):
            file.execute("update mcusweep_trials set reused_from = ? where number = ?", (origin, number))
    assert found(storage, "s") == (TrainedBy("unknown", 3, 3),)
