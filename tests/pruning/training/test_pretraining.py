"""Training before pruning is done once by all methods that begin alike, and charged to each."""

from dataclasses import replace

import pytest

from mcu.budget import Budget
from pruning.methods import method
from pruning.training.problem import StoppedError

pytestmark = pytest.mark.slow

BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)
OTHER = Budget(flash=6_000, sram=8_200, macs=200_000)
PRETRAINED = 2
"""Whole epochs out of six: four tenths of the float steps."""


@pytest.fixture
def shared(problem, settings, tmp_path):
    return replace(problem, identity="a"), replace(settings, parents=tmp_path / "parents")


def job(name, shared, budget=BUDGET, **changes):
    """What a job made, and the epochs it reported."""
    problem, settings = shared
    seen = []
    outcome = method(name).run(
        problem, budget, replace(settings, **changes), lambda progress: seen.append(progress.epochs_done) or True
    )
    return outcome, seen


@pytest.mark.parametrize(("first", "second"), [("l1", "taylor"), ("taylor", "group-norm"), ("slimming", "slimming")])
def test_a_job_takes_the_training_of_one_that_began_alike_and_ends_the_same(first, second, shared):
    alone, all_epochs = job(second, shared, parents=None)
    before, _ = job(first, shared, OTHER)
    again, epochs = job(second, shared)
    assert all_epochs == [1, 2, 3, 4, 5, 6]
    assert epochs == all_epochs[PRETRAINED:]
    assert again.data == alone.data
    assert again.trajectory == alone.trajectory
    assert before.shared_seconds == 0
    assert again.shared_seconds > 0


def test_training_that_differs_is_not_taken(shared):
    jobs = [
        ("l1", {}),
        ("slimming", {}),
        ("group-norm-sparse", {}),
        ("slimming", {"hyperparameters": {"slimming_penalty": 0.001}}),
        ("l1", {"hyperparameters": {"learning_rate": 0.02}}),
        ("l1", {"hyperparameters": {"pretrain": 0.2}}),
        ("l1", {"seed": 1}),
    ]
    for name, changes in jobs:  # each beside what all before it left
        outcome, epochs = job(name, shared, **changes)
        assert outcome.shared_seconds == 0, (name, changes)
        assert epochs == [1, 2, 3, 4, 5, 6], (name, changes)


def test_a_job_that_was_cut_off_is_still_charged_for_what_it_took(shared, tmp_path):
    problem, settings = shared
    job("l1", shared)
    whole, _ = job("l2", shared)
    cut = replace(settings, checkpoint=tmp_path / "job")
    with pytest.raises(StoppedError):
        method("l2").run(problem, BUDGET, cut, lambda progress: progress.epochs_done < 4)
    again, epochs = job("l2", shared, checkpoint=tmp_path / "job")
    assert epochs == [5, 6]
    assert again.data == whole.data
    assert again.shared_seconds == whole.shared_seconds > 0
