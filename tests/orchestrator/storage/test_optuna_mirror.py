"""Optuna's tables show the study and teach nobody: without them, or with wrong ones, a sweep goes on the same."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from fake_sweep import make_sweep
from scripted import frame_of, scripted

from orchestrator.running.run import begin_study, stored_sweep
from orchestrator.storage.optuna_mirror import forget_mirror
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig


def extended(storage: str, sweep: SweepConfig) -> None:
    store = Store(storage, writing=True)
    study = begin_study(store, sweep, extend=True)
    store.close()
    scripted(storage, stored_sweep(study))


def mirrored(storage: str) -> list[tuple[object, ...]]:
    study = optuna.load_study(study_name="s", storage=storage)
    return [
        (trial.number, trial.state, trial.params, trial.values, trial.constraints, trial.user_attrs)
        for trial in study.trials
    ]


@pytest.mark.parametrize("sampler", ["tpe", "optuna-tpe", "nsga2"])
def test_a_sweep_goes_on_the_same_without_its_mirror_which_is_written_again(tmp_path: Path, sampler: str):
    kept, lost = (f"sqlite:///{tmp_path / name}.db" for name in ("kept", "lost"))
    for storage in (kept, lost):
        scripted(storage, make_sweep(trials=14, sampler=sampler))
    store = Store(lost, writing=True)
    forget_mirror(store.url, "s")
    store.close()
    for storage in (kept, lost):
        extended(storage, make_sweep(trials=20, sampler=sampler))
    assert frame_of(kept)["param.quality"].tolist() == frame_of(lost)["param.quality"].tolist()
    assert len(mirrored(kept)) == 20
    assert mirrored(kept) == mirrored(lost)


def test_what_the_mirror_shows_is_ours_with_results_constraints_and_fixed_hyperparameters(storage):
    scripted(storage, make_sweep(trials=2))
    (first, second), frame = mirrored(storage), frame_of(storage)
    assert [first[0], second[0]] == [0, 1]
    assert first[2] == {"method": "fake", "quality": frame["param.quality"][0]}
    assert first[3] == [frame["val_accuracy"][0], 30000, 30000, 10**6]
    assert first[4] == {"flash": 30000 / 65536 - 1}
    shown = {"index": 0, "network": "resnet8", "task": "mnist-5k", "budget_flash": 65536, "reports": 1}
    assert shown.items() <= first[5].items()
    assert first[5]["spec_hash"] == frame["spec_hash"][0]


def test_methods_that_an_extension_adds_are_choices_of_every_trial_in_the_mirror(storage):
    scripted(storage, make_sweep(trials=2))
    before = mirrored(storage)
    extended(storage, make_sweep(trials=2, methods=("fake", "other")))
    study = optuna.load_study(study_name="s", storage=storage)
    assert {trial.distributions["method"].choices for trial in study.trials} == {("fake", "other")}
    assert [trial.params["method"] for trial in study.trials] == ["fake", "fake", "other", "other"]
    assert mirrored(storage)[:2] == before
