"""Options of the task among the hyperparameters: which trials there are, from what they begin, on which samples."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mcu.errors import InputError
from orchestrator.planning import preflight
from orchestrator.planning.inputs import network_key
from orchestrator.planning.plan import Plan, least_of
from orchestrator.planning.planned_trial import Start, Trained
from orchestrator.planning.preflight import check_sweep, input_tasks
from orchestrator.running.stop_rule import family
from orchestrator.samplers.registry import make_sampler
from orchestrator.worker.trial import run_trial
from search_spaces.budgets import BudgetsSection
from search_spaces.sweep import SweepConfig, load_sweep

SIZES = {"size": {"choices": [8, 16]}}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Thirty images of each of two classes, noise of another contrast."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label, contrast in (("flat", 5), ("rough", 40)):
        (folder / label).mkdir()
        for number in range(30):
            pixels = rng.normal(60 + 4 * number, contrast, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def sweep_of(images, hyperparameters=None, **sections) -> SweepConfig:
    table = {
        "sweep": {"name": "s", "trials": 4},
        "task": {"name": "image-folder", "data": str(images), "options": {"size": 12, "val_limit": 6}},
        "network": {"name": "tiny-cnn", "width": 0.25},
        "budgets": {"list": [{"name": "large", "flash": "5KB"}, {"name": "small", "flash": 4000}]},
        "methods": {"names": ["differentiable"]},
        "training": {"epochs": 2, "batch_size": 8, "device": "cpu"},
        "hyperparameters": {"learning_rate": 0.1} | (SIZES if hyperparameters is None else hyperparameters),
        "stopping": {"enabled": False},
        "workers": {"executor": "local", "count": 1},
    }
    return SweepConfig.model_validate(table | sections)


@pytest.mark.parametrize("sampler", ["grid", "random", "qmc", "tpe", "nsga2"])
def test_a_sampled_option_is_the_tasks_and_a_hyperparameter_of_the_trial(images, sampler):
    plan = Plan(sweep_of(images))
    make = make_sampler(sampler, plan.spaces, 0)
    chosen = make.suggest("differentiable", 0, _context(plan))
    spec = plan.spec(plan.trials[0], chosen)
    assert spec.task.searched == {"size": spec.hyperparameters["size"]}
    assert spec.hyperparameters["size"] in (8, 16)
    assert spec.task.options == {"size": 12, "val_limit": 6}


def _context(plan):
    from orchestrator.samplers.base import Context

    return Context(plan.trials[0].budget, plan.trials[0].network.name, len(plan.cells))


def test_trials_on_two_inputs_are_different_trials_of_one_family(images):
    plan = Plan(sweep_of(images))
    first, second = (plan.spec(plan.trials[0], {"size": size}) for size in (8, 16))
    assert first.hash() != second.hash()
    assert first.data != second.data
    assert family(first) == family(second)  # the stop rule compares them


def test_all_inputs_have_the_same_samples_in_each_split(images):
    tasks = input_tasks(sweep_of(images))
    small, large = (tasks[("size", size),] for size in (8, 16))
    assert (small.input_shape, large.input_shape) == ((3, 8, 8), (3, 16, 16))
    for split in ("train", "val", "test"):
        means = [getattr(task, f"x_{split}").mean(axis=(1, 2, 3)) for task in (small, large)]
        assert np.abs(means[0] - means[1]).max() < 1.5  # image by image
    assert len(small.y_val) == 6


def test_a_lineage_has_a_dense_parent_for_each_input_and_never_mixes_them(images):
    plan = Plan(sweep_of(images, lineage={"enabled": True}, sweep={"name": "s", "trials": 8, "seeds": 2}))
    parents = [trial for trial in plan.trials if trial.is_parent]
    assert sorted(dict(trial.inputs)["size"] for trial in parents) == [8, 8, 16, 16]
    assert plan.spaces == {"differentiable": {}}  # planned, not sampled
    for trial in plan.trials:
        for candidate in plan.lineage.candidates(trial):
            assert plan.trials[candidate].inputs == trial.inputs
    jobs = [trial for trial in plan.trials if not trial.is_parent]
    assert {(dict(trial.inputs)["size"], trial.budget.name, trial.turn) for trial in jobs} == {
        (size, budget, turn) for size in (8, 16) for budget in ("large", "small") for turn in (0, 1)
    }
    assert plan.spec(jobs[0], {}).hyperparameters["size"] == dict(jobs[0].inputs)["size"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": {"low": 8.0, "high": 16.0}}, "size: is an option of the task: allowed are"),
        ({"size": {"low": 8, "high": 16, "log": True}}, "size: is an option of the task: allowed are"),
        ({"size": 16}, "size = 16: is an option of the task: a fixed one goes to task.options"),
        ({"size": {"low": 8, "high": 100}}, "93 combinations of task options: allowed are 64"),
        ({"colour": {"choices": ["rgb", "grey"]}}, "hyperparameters.colour: no method"),
    ],
)
def test_options_that_cannot_be_searched_are_refused(images, given, message):
    with pytest.raises(InputError, match=message):
        check_sweep_plan(sweep_of(images, given))


def check_sweep_plan(sweep):
    Plan(sweep).check()


def test_a_combination_that_no_trial_can_use_is_refused_before_the_sweep(images):
    with pytest.raises(InputError, match="task 'image-folder': size = 2: must be 4 to 1024"):
        check_sweep(sweep_of(images, {"size": {"choices": [8, 2]}}))


def test_a_budget_is_held_against_the_network_on_every_input(images, monkeypatch):
    class Side(int):
        def require(self, budget, name):
            if self > budget.sram:
                raise InputError(f"cannot be met by {name}")

    monkeypatch.setattr(preflight, "_reach", lambda choice, task, *_: Side(task.input_shape[1]))
    sweep = sweep_of(images, {"size": {"choices": [8, 32]}}, budgets={"list": [{"sram": 10}, {"sram": 50}]})
    assert check_sweep(sweep)["input_shape"] == [3, 8, 8]  # some network meets each
    found = preflight.refusals(sweep, preflight.reaches_of(sweep, input_tasks(sweep)))
    assert {label: str(*errors) for label, errors in found.items()} == {
        "10 B SRAM": "cannot be met by tiny-cnn (size = 32)"
    }
    with pytest.raises(InputError, match=r"budgets: 5 B SRAM: cannot be met by tiny-cnn \(size = 8\)"):
        check_sweep(sweep_of(images, {"size": {"choices": [8, 32]}}, budgets={"list": [{"sram": 5}]}))


@pytest.mark.parametrize(("task", "counts"), [("keywords-synthetic", True), ("digits", False)])
def test_the_front_end_counts_in_the_budget_of_a_program_that_has_one(monkeypatch, images, task, counts):
    monkeypatch.setattr("orchestrator.planning.plan.task_digest", lambda task: "0" * 32)
    sweep = sweep_of(images, task={"name": task}, hyperparameters={}, budgets={"devices": ["stm32f446re"]})
    firmware = sweep.model_copy(update={"budgets": BudgetsSection(devices=["stm32f446re"], runtime="firmware")})
    flags = [plan.spec(plan.trials[0], {}).front_end_counts for plan in (Plan(sweep), Plan(firmware))]
    assert flags == [False, counts]


def test_a_lineage_notes_what_each_network_takes_at_least_on_every_input(images):
    sweep = sweep_of(images, lineage={"enabled": True})
    least = least_of(json.loads(json.dumps(check_sweep(sweep))))
    network = sweep.network.choices()[0]
    small, large = (least[network_key(network, (("size", size),))] for size in (8, 16))
    assert large.macs - 2 == 4 * (small.macs - 2)  # the two classes are told from one place
    assert least_of(check_sweep(sweep_of(images))) == {}


def test_searched_options_are_not_a_key_of_the_file(tmp_path):
    (tmp_path / "sweep.toml").write_text("[task]\nname = 'digits'\nsearched = {size = 3}\n")
    with pytest.raises(InputError, match=r"unknown key task.searched: options are searched in \[hyperparameters\]"):
        load_sweep(tmp_path / "sweep.toml")


def test_a_job_on_a_searched_input_begins_with_its_dense_network_and_deploys_its_shape(images, tmp_path):
    budgets, once = {"list": [{"flash": "5KB"}]}, {"epochs": 1, "batch_size": 8, "device": "cpu"}
    plan = Plan(sweep_of(images, SIZES, budgets=budgets, training=once, lineage={"enabled": True}))
    job = next(trial for trial in plan.trials if not trial.is_parent and dict(trial.inputs) == {"size": 16})
    parent = plan.spec(plan.trials[plan.lineage.parent(job)], {})
    trained = run_trial(parent, tmp_path, lambda _: True)
    spec = plan.spec(job, {}, Start(Trained(parent.hash(), parent.budget, trained.dense), parent.hash()))
    result = run_trial(spec, tmp_path, lambda _: True)
    assert (trained.state, result.state) == ("complete", "complete")
    assert spec.task.searched == parent.task.searched == {"size": 16}
    facts = json.loads((tmp_path / result.artifacts["deployment"].path).read_text())
    assert facts["input_shape_nchw"] == [3, 16, 16]
    assert facts["spec"]["task"]["searched"] == {"size": 16}
