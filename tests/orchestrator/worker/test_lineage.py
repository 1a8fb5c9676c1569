"""Trials that begin with one another's networks, trained for real on a data set that a dependency ships."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest

from mcu.errors import InputError
from orchestrator.planning.plan import Plan
from orchestrator.planning.planned_trial import Start, Trained
from orchestrator.spec import NETWORK, EpochReport, TrialResult, TrialSpec
from orchestrator.worker.trial import inheriting, problem_of, run_trial
from pruning.training.evaluation import float_accuracy
from pruning.training.trained import TrainedNetwork
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import load_task

pytest.importorskip("sklearn", reason="the digits of scikit-learn are the smallest real data set")

PLAN = Plan(
    SweepConfig.model_validate({
        "sweep": {"name": "s", "trials": 2},
        "task": {"name": "digits"},
        "network": {"name": "resnet8", "width": 0.5},
        "budgets": {"list": [{"flash": 16_000}, {"flash": 9_000}]},
        "methods": {"names": ["differentiable"]},
        "lineage": {"enabled": True},
        "training": {"epochs": 4, "batch_size": 64, "device": "cpu"},
        "hyperparameters": {"learning_rate": 0.1},
    })
)  # fmt: skip


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> tuple[Path, list[TrialSpec], list[TrialResult]]:
    """The dense parent, a job that begins with it, and one that begins with that."""
    root, specs, results = tmp_path_factory.mktemp("artifacts"), [], []
    for trial in PLAN.trials:
        start = (
            None
            if trial.is_parent
            else Start(Trained(specs[-1].hash(), specs[-1].budget, results[-1].dense), specs[0].hash())
        )
        specs.append(PLAN.spec(trial, {}, start))
        results.append(run_trial(specs[-1], root, lambda _: True))
    return root, specs, results


def test_each_job_is_within_its_budget_and_speaks_of_the_dense_network(line):
    _, specs, results = line
    assert [result.state for result in results] == ["complete"] * 3
    assert len({result.dense for result in results}) == 1
    assert len({tuple(result.dense_widths.items()) for result in results}) == 1
    assert results[0].dense.flash == results[0].flash
    for spec, result in zip(specs[1:], results[1:], strict=True):
        assert result.feasible
        assert result.flash <= spec.budget.flash
        assert all(result.widths[name] <= width for name, width in result.dense_widths.items())
    for before, after in pairwise(results):
        assert all(after.widths[name] <= width for name, width in before.widths.items())
        assert all(len(row["widths"]) == len(after.dense_widths) for row in after.trajectory)


def test_a_job_begins_where_its_ancestor_ended(line):
    root, specs, results = line
    task = load_task(specs[2].task)
    problem = inheriting(problem_of(specs[2], task), specs[2], root)
    network = problem.start().eval()
    assert float_accuracy(network, task.x_test, task.y_test, problem) == pytest.approx(
        results[1].float_accuracy, abs=0.1
    )
    assert problem.constraints.model(network).graph.channels.tolist() == [w for w in results[1].widths.values() if w]
    fresh = float_accuracy(problem.network().eval(), task.x_test, task.y_test, problem)
    assert results[1].float_accuracy > fresh + 0.4


def test_peers_begin_with_the_ancestor_and_uniform_learns_from_the_dense_network(line):
    root, specs, results = line
    short = specs[2].training.model_copy(update={"epochs": 1})
    heir = specs[2].model_copy(update={"method": "l1", "training": short})
    pruned = run_trial(heir, root, lambda _: True)
    assert (pruned.state, pruned.dense_widths) == ("complete", results[0].dense_widths)
    assert all(width <= results[1].widths[name] for name, width in pruned.widths.items())
    assert NETWORK in pruned.artifacts
    pupil = heir.model_copy(update={"method": "uniform", "ancestor": None})
    taught, alone = (run_trial(s, root, lambda _: True) for s in (pupil, pupil.model_copy(update={"parent": None})))
    assert taught.state == "complete"
    assert NETWORK not in taught.artifacts
    assert taught.artifacts["model"].sha256 != alone.artifacts["model"].sha256


def test_the_trained_network_is_an_artifact(line):
    root, specs, results = line
    for spec, result in zip(specs, results, strict=True):
        note = result.artifacts[NETWORK]
        data = (root / note.path).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (note.sha256, note.bytes)
        assert note.path == f"{spec.hash()}/network.safetensors"


def test_a_job_that_was_cut_off_ends_with_the_bits_it_would_have_ended_with(line):
    root, specs, results = line

    class CutOffError(Exception):
        pass

    def cut(report: EpochReport) -> bool:
        raise CutOffError

    with pytest.raises(CutOffError):
        run_trial(specs[2], root, cut)
    again = run_trial(specs[2], root, lambda _: True)
    assert {name: note.sha256 for name, note in again.artifacts.items()} == {
        name: note.sha256 for name, note in results[2].artifacts.items()
    }


@pytest.mark.parametrize("harm", ["gone", "damaged", "cut"])
def test_a_network_that_is_not_whole_is_refused_in_one_line(line, tmp_path, harm):
    root, specs, _ = line
    for spec in specs[:2]:
        file = root / spec.hash() / "network.safetensors"
        target = tmp_path / spec.hash() / file.name
        target.parent.mkdir()
        target.write_bytes(file.read_bytes())
    data = bytearray(target.read_bytes())
    if harm == "gone":
        target.unlink()
    elif harm == "cut":
        target.write_bytes(data[: len(data) // 2])
    else:
        data[-7] ^= 1
        target.write_bytes(data)
    with pytest.raises(InputError, match=r"the trained network that this trial starts from is (missing|damaged)") as e:
        run_trial(specs[2], tmp_path, lambda _: True)
    assert "\n" not in str(e.value)
    with pytest.raises(InputError):
        TrainedNetwork.read(target)
