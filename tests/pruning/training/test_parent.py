"""Dense parents are trained once, charged to every job, and teach or start it."""

from dataclasses import replace

import pytest
import torch

from mcu.budget import Budget
from pruning.differentiable import DifferentiablePruning
from pruning.training.parent import begin
from pruning.training.problem import StoppedError
from pruning.training.recipe import Recipe

BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)
CHOSEN = {"learning_rate": 0.05, "parent_epochs": 2, "start": "parent", "distillation": 0.5, "averaging": 1.0}


def epochs_of(seen):
    def report(progress):
        seen.append((progress.phase, progress.epochs_done))
        return True

    return report


@pytest.fixture
def shared(problem, settings, tmp_path):
    return replace(problem, identity="a"), replace(settings, parents=tmp_path / "parents", hyperparameters=CHOSEN)


def test_the_parents_epochs_are_epochs_of_the_job(shared):
    problem, settings = shared
    seen = []
    DifferentiablePruning().run(problem, BUDGET, settings, epochs_of(seen))
    assert [epoch for _, epoch in seen] == [1, 2, 3, 4, 5, 6]
    assert [phase for phase, _ in seen[:2]] == ["parent", "parent"]
    assert seen[2][0] != "parent"


def test_the_second_job_takes_the_parent_of_the_first_and_ends_the_same(shared):
    problem, settings = shared
    first = DifferentiablePruning().run(problem, BUDGET, settings, lambda progress: True)
    seen = []
    second = DifferentiablePruning().run(problem, BUDGET, settings, epochs_of(seen))
    assert [epoch for _, epoch in seen] == [3, 4, 5, 6]
    assert second.data == first.data
    assert first.shared_seconds == 0
    assert second.shared_seconds > 0


@pytest.mark.parametrize("other", ["identity", "seed", "epochs", "augment"])
def test_a_parent_of_something_else_is_not_taken(shared, other):
    problem, settings = shared
    begin(problem, BUDGET, settings, lambda progress: True, "any")
    if other in ("identity", "augment"):
        problem = replace(problem, **{other: "none"})
    elif other == "seed":
        settings = replace(settings, seed=1)
    else:
        settings = replace(settings, hyperparameters=CHOSEN | {"parent_epochs": 3})
    assert begin(problem, BUDGET, settings, lambda progress: True, "any").shared_seconds == 0


def test_a_job_starts_with_the_parents_weights_or_its_own(shared):
    problem, settings = shared
    taught = begin(problem, BUDGET, settings, lambda progress: True, "any")
    plain = replace(settings, hyperparameters={})
    fresh = begin(problem, BUDGET, plain, lambda progress: True, "any")
    scratch = begin(
        problem, BUDGET, replace(settings, hyperparameters=CHOSEN | {"start": "scratch"}), lambda progress: True, "any"
    )
    weights = [job.network.module.get_parameter("head.weight").detach() for job in (taught, fresh, scratch)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    teacher = taught.trainer.teacher
    assert teacher is not None
    x = torch.randn(8, 1, 12, 12)
    taught.network.module.eval()
    torch.testing.assert_close(teacher(x), taught.network.module(x), rtol=1e-3, atol=1e-4)
    assert fresh.trainer.teacher is None


def test_a_taught_job_that_was_cut_off_ends_as_if_it_never_was(shared, tmp_path):
    problem, settings = shared
    whole = DifferentiablePruning().run(problem, BUDGET, replace(settings, parents=None), lambda progress: True)
    for epochs in (1, 2, 3, 5):
        cut = replace(settings, checkpoint=tmp_path / f"job-{epochs}", parents=tmp_path / f"parents-{epochs}")
        with pytest.raises(StoppedError):
            DifferentiablePruning().run(problem, BUDGET, cut, lambda progress, end=epochs: progress.epochs_done < end)
        seen = []
        again = DifferentiablePruning().run(problem, BUDGET, cut, epochs_of(seen))
        assert [epoch for _, epoch in seen] == list(range(epochs + 1, 7))
        assert again.data == whole.data


def test_the_parent_learns_from_labels_alone(shared):
    recipe = Recipe.of(CHOSEN, 6)
    assert recipe.distillation == 0.5
    problem, settings = shared
    with pytest.raises(StoppedError):
        begin(problem, BUDGET, settings, lambda progress: progress.epochs_done < 1, "any")
    job = begin(problem, BUDGET, settings, lambda progress: True, "any")
    assert job.steps == 4 * len(job.trainer.batches)
