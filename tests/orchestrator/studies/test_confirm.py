"""The best trials of a study, trained again with other seeds."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from fake_sweep import make_sweep
from scripted import frame_of, good, scripted

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.cli import main as cli
from orchestrator.executors.base import Finished
from orchestrator.queries.best import find_best
from orchestrator.queries.repeats import repeats_of
from orchestrator.running.interrupts import Interrupts, Wish
from orchestrator.running.run import begin_study, stored_sweep
from orchestrator.spec import IMPORTED, NETWORK, Artifact
from orchestrator.storage.connection import DriverReplaced
from orchestrator.storage.store import Store
from orchestrator.studies.confirm import plan_best_again
from search_spaces.sweep import SweepConfig

PLAIN = make_sweep(trials=6, sampler="tpe")
HEIRS = SweepConfig.model_validate(
    make_sweep(trials=6, sampler="tpe", methods=("heir", "fake")).model_dump(mode="json")
    | {"lineage": {"enabled": True}}
)


def judged(attempt, spec, nth):
    """Results that depend on hyperparameters and a little on the seed."""
    result = good(spec.model_copy(update={"hyperparameters": {"quality": spec.hyperparameters.get("quality", 0.5)}}))
    assert result.val_accuracy is not None
    seen = {"val_accuracy": result.val_accuracy - spec.seed / 2**40, "flash": 30_000 if spec.budget.sram else 60_000}
    return [Finished(attempt, result.model_copy(update=seen))]


def confirmed(storage: str, top: int, seeds: int) -> int:
    store = Store(storage, writing=True)
    try:
        return plan_best_again(store, store.study(), top, seeds)[1]
    finally:
        store.close()


def go_on(storage: str, **more):
    return scripted(storage, stored_sweep(Store(storage).study()), judged, **more)


@pytest.mark.parametrize("sweep", [PLAIN, HEIRS], ids=["independent", "lineage"])
def test_repeats_differ_from_the_winner_of_each_budget_in_their_seed_alone(storage, sweep, monkeypatch):
    for place in ("running.run", "studies.confirm"):
        monkeypatch.setattr(f"orchestrator.{place}.left_network", lambda *_: lambda result: True)
    planned = scripted(storage, sweep, judged)[0].counts["complete"]
    before = frame_of(storage)
    best = before[before["flash"] <= 32768]["val_accuracy"].idxmax(), before["val_accuracy"].idxmax()
    assert confirmed(storage, 1, 2) == 2 * len(set(best))
    assert go_on(storage)[0].counts["complete"] == planned + 2 * len(set(best))
    store = Store(storage)
    trials = {trial.number: trial for trial in store.trials(store.study())}
    repeats = repeats_of(store.study())
    assert set(repeats) == set(best)
    for first, later in repeats.items():
        alike = [trials[number].spec for number in (first, *later)]
        assert len({spec.seed for spec in alike}) == 3
        assert len({spec.model_copy(update={"seed": 0}).hash() for spec in alike}) == 1
    assert confirmed(storage, 1, 2) == 0  # asked once more it adds nothing; for more seeds what is missing
    assert confirmed(storage, 1, 3) == len(set(best))
    assert confirmed(storage, 1, 3) == 0  # nor where it was interrupted in between
    report, executor = go_on(storage)
    assert report.finished
    assert len(executor.seen) == len(set(best))
    assert (
        frame_of(storage)
        .iloc[:planned][["number", "spec_hash", "val_accuracy"]]
        .equals(before[["number", "spec_hash", "val_accuracy"]])
    )


def test_the_search_goes_on_as_if_nothing_had_been_trained_again(tmp_path):
    specs = []
    for name, again in (("plain", False), ("confirmed", True)):
        storage = f"sqlite:///{tmp_path / name}.db"
        scripted(storage, PLAIN, judged)
        if again:
            confirmed(storage, 2, 1)
            go_on(storage)
        store = Store(storage, writing=True)
        longer = PLAIN.model_copy(update={"sweep": PLAIN.sweep.model_copy(update={"trials": 9})})
        begin_study(store, longer, extend=True)
        store.close()
        go_on(storage)
        store = Store(storage)
        repeats = {number for later in repeats_of(store.study()).values() for number in later}
        specs.append([trial.spec for trial in store.trials(store.study()) if trial.number not in repeats])
        assert bool(repeats) is again
    assert specs[0] == specs[1]
    assert len(specs[0]) == 9


def test_best_says_what_other_seeds_gave(storage):
    scripted(storage, PLAIN, judged)
    assert "seeds" not in find_best(Store(storage), Budget(flash=65536)).reason
    confirmed(storage, 1, 2)
    go_on(storage)
    assert "; trained with 3 seeds: validation accuracy " in find_best(Store(storage), Budget(flash=65536)).reason


def test_an_unfinished_study_or_one_without_a_model_is_refused(storage):
    interrupts = Interrupts()
    interrupts.wish = Wish.STOP_NOW
    scripted(storage, PLAIN, judged, interrupts=interrupts)
    with pytest.raises(InputError, match="6 trials have no result yet; run `mcusweep resume` first"):
        confirmed(storage, 1, 1)


def test_a_trial_whose_ancestor_left_no_network_cannot_be_trained_again(storage, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.running.run.left_network", lambda *_: lambda result: True)
        scripted(storage, HEIRS, judged)
    with pytest.raises(
        InputError, match=r"cannot be trained again: the network of its lineage in \w{12}\.\.\. is missing"
    ):
        confirmed(storage, 3, 1)


def test_an_imported_network_is_not_begun_with_before_it_is_trusted(storage, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.running.run.left_network", lambda *_: lambda result: True)
        scripted(storage, HEIRS, judged)
    note = Artifact(path=f"{IMPORTED}/0/network.safetensors", sha256="0" * 64, bytes=1)
    trials = Store.trials

    def imported(self, study):
        return [
            replace(trial, result=trial.result.model_copy(update={"artifacts": {NETWORK: note}}))
            for trial in trials(self, study)
        ]

    monkeypatch.setattr(Store, "trials", imported)
    with pytest.raises(InputError, match=r"was imported; if you trust it give --trust, or try a smaller --top$"):
        confirmed(storage, 3, 1)


def test_a_study_that_another_driver_holds_is_confirmed_by_taking_it_over(storage, tmp_path, capsys):
    scripted(storage, PLAIN, judged)
    confirmed(storage, 1, 1)
    go_on(storage)
    command = ["confirm", "--seeds", "1", "--quiet", "--storage", storage]
    with contextlib.suppress(DriverReplaced), Store(storage, writing=True).lock("s"):
        assert cli.run(command) == 2
        assert "take its place" in capsys.readouterr().err
        assert cli.run([*command, "--take-over", "--trust", "--folder", str(tmp_path)]) == 0
        assert "0 trials are added" in capsys.readouterr().err
