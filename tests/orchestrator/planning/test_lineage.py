from __future__ import annotations

from dataclasses import asdict

import pytest
from fake_sweep import make_sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from orchestrator.planning.extension import grown
from orchestrator.planning.inputs import network_key
from orchestrator.planning.lineage import has_more_room, job_epochs, nearest_first, shrinkage
from orchestrator.planning.plan import LEAST, PARENT_METHOD, Plan, least_of
from orchestrator.planning.planned_trial import Start, Trained
from search_spaces.sweep import SweepConfig

LADDER = [
    {"name": "small", "flash": 10_000, "sram": 10_000},
    {"name": "flash-bound", "flash": 12_000, "sram": 40_000},
    {"name": "large", "flash": 40_000, "sram": 40_000},
    {"name": "sram-bound", "flash": 40_000, "sram": 12_000},
    {"name": "open", "flash": 50_000},
]


def lineage_sweep(budgets=LADDER, trials=5, methods=("heir",), lineage=None, **sections) -> SweepConfig:
    dump = make_sweep(trials=trials, methods=methods).model_dump(mode="json")
    dump["budgets"] = {"list": budgets}
    dump["lineage"] = {"enabled": True, **(lineage or {})}
    for section, values in sections.items():
        dump[section] = {**dump[section], **values}
    return SweepConfig.model_validate(dump)


def ancestors(plan: Plan) -> dict[str, list[str]]:
    """Names of the possible ancestors of the first trial of every budget."""
    name = {trial.number: trial.budget.name for trial in plan.trials}
    return {
        trial.budget.name: [name[n] for n in plan.lineage.candidates(trial)] for trial in plan.trials if not trial.turn
    }


def test_a_job_begins_with_the_nearest_budget_that_is_at_least_as_large_in_every_bound():
    assert ancestors(Plan(lineage_sweep())) == {
        "dense parent": [],
        "open": ["dense parent"],
        "large": ["open", "dense parent"],
        "flash-bound": ["large", "open", "dense parent"],
        "sram-bound": ["large", "open", "dense parent"],
        "small": ["flash-bound", "sram-bound", "large", "open", "dense parent"],
    }


def test_the_longest_way_down_is_known():
    plan = Plan(lineage_sweep())
    heights = {trial.budget.name: plan.lineage.heights[trial.number] for trial in plan.trials}
    assert heights == {"dense parent": 5, "open": 4, "large": 3, "flash-bound": 2, "sram-bound": 1, "small": 1}


BOUND = st.none() | st.sampled_from([100, 200, 300, 400])
BUDGETS = st.lists(st.builds(Budget, BOUND, BOUND, BOUND), min_size=1, max_size=8)


@given(BUDGETS)
@settings(max_examples=200)
def test_ancestors_have_more_room_and_never_lead_in_a_circle(budgets):
    numbered = list(enumerate(budgets))
    for number, budget in numbered:
        larger = nearest_first(budget, numbered)
        assert set(larger) == {n for n, other in numbered if has_more_room(other, budget)}
        assert number not in larger
        for n in larger:
            assert not has_more_room(budget, budgets[n])
            assert all(getattr(budgets[n], name) in (None, *range(b, 500)) for name, b in budget.bounds().items())


def test_the_nearest_is_fewest_open_bounds_then_fewest_octaves():
    budget = Budget(flash=100, sram=100)
    others = [(3, Budget(flash=150)), (4, Budget(flash=800, sram=100)), (5, Budget(200, 200)), (6, Budget(200, 200))]
    assert nearest_first(budget, others) == (5, 6, 4, 3)


def test_a_budget_added_in_the_middle_inherits_but_changes_nothing_of_what_was_there():
    ends = [LADDER[0], LADDER[4]]
    old, new = lineage_sweep(ends, trials=4), lineage_sweep([ends[0], LADDER[2], ends[1]], trials=6)
    before, after = Plan(old), Plan(grown(old, new))
    assert after.trials[: len(before.trials)] == before.trials
    for trial in before.trials:
        assert after.lineage.candidates(trial) == before.lineage.candidates(trial)
    added = after.trials[len(before.trials) :]
    assert [trial.budget.name for trial in added] == ["large", "large"]
    names = [[after.trials[n].budget.name for n in after.lineage.candidates(trial)] for trial in added]
    assert names == [["open", "dense parent"]] * 2
    for trial in added:
        assert after.trials[after.lineage.candidates(trial)[0]].turn == trial.turn


def test_one_dense_parent_for_each_network_and_with_seeds_one_for_each_seed():
    plan = Plan(lineage_sweep(trials=10))
    assert [trial.method for trial in plan.trials if trial.is_parent] == [PARENT_METHOD]
    seeded = Plan(lineage_sweep(trials=15, sweep={"seeds": 3}))
    parents = [trial for trial in seeded.trials if trial.is_parent]
    assert [trial.number for trial in parents] == [0, 1, 2]
    for trial in seeded.trials[3:]:
        assert seeded.trials[seeded.lineage.parent(trial)].seed == trial.seed


def test_only_methods_that_can_inherit_do():
    plan = Plan(lineage_sweep(methods=("fake", "heir")))
    assert {trial.method: bool(plan.lineage.candidates(trial)) for trial in plan.trials if not trial.is_parent} == {
        "fake": False,
        "heir": True,
    }
    for methods in (("fake",), ("pupil",)):
        with pytest.raises(
            InputError, match=r"lineage\.enabled = true: no method of this sweep \((fake|pupil)\) can begin with"
        ):
            Plan(lineage_sweep(methods=methods)).check()


def test_a_method_that_is_taught_waits_for_the_dense_parent_and_trains_as_long_as_ever():
    plan = Plan(lineage_sweep(methods=("heir", "pupil"), training={"epochs": 20}))
    parent = next(trial for trial in plan.trials if trial.is_parent)
    small = next(trial for trial in plan.trials if (trial.method, trial.budget.name) == ("pupil", "small"))
    assert plan.lineage.candidates(small) == (parent.number,)
    dense = Resources(flash=60_000, sram=50_000, macs=10**6)
    root = plan.spec(parent, {})
    spec = plan.spec(small, {}, Start(Trained(root.hash(), root.budget, dense), root.hash()))
    assert (spec.ancestor, spec.parent, spec.training.epochs) == (None, root.hash(), 20)
    assert not spec.leaves_network
    assert plan.expected_epochs(small, dense) == 20
    heirs_alone = Plan(lineage_sweep(training={"epochs": 20})).lineage
    assert all(plan.lineage.inherits(trial) == (trial.method == "heir") for trial in plan.trials if not trial.is_parent)
    assert max(heirs_alone.heights) == max(plan.lineage.heights)


def test_without_a_lineage_plan_specifications_and_stored_sweeps_are_as_they_were():
    sweep = make_sweep()
    assert "lineage" not in sweep.canonical()
    plan = Plan(sweep)
    assert not any(plan.lineage.candidates(trial) for trial in plan.trials)
    spec = plan.spec(plan.trials[0], {})
    assert {"ancestor", "parent"}.isdisjoint(spec.model_dump())
    assert set(plan.lineage.heights) == {1}


def test_a_specification_names_its_ancestor_and_trains_by_the_distance_to_it():
    plan = Plan(lineage_sweep(training={"epochs": 20}))
    by_name = {trial.budget.name: trial for trial in plan.trials}
    parent = plan.spec(by_name["dense parent"], {})
    assert (parent.training.epochs, parent.budget) == (40, Budget())
    dense = Resources(flash=60_000, sram=50_000, macs=10**6)
    start = Start(Trained(parent.hash(), parent.budget, dense), parent.hash())
    near, far = plan.spec(by_name["open"], {}, start), plan.spec(by_name["small"], {}, start)
    assert near.ancestor == far.ancestor == near.parent == parent.hash()
    assert (near.training.epochs, far.training.epochs) == (10, 20)
    assert near.hash() != plan.spec(by_name["open"], {}).hash()


def test_the_distance_is_that_of_the_tightest_bound_and_no_more_than_the_dense_network_asks_for():
    dense = Resources(flash=1_000, sram=1_000, macs=10**9)
    assert shrinkage(Budget(flash=500, sram=250), Budget(), dense) == 4
    assert shrinkage(Budget(flash=500, sram=250), Budget(flash=600, sram=300), dense) == 1.2
    assert shrinkage(Budget(flash=5_000), Budget(flash=10_000), dense) == 1
    assert [job_epochs(20, times) for times in (1, 1.7, 2.4, 3.4, 50, float("inf"))] == [10, 10, 15, 20, 20, 20]


def test_what_no_width_can_change_does_not_count_as_distance():
    dense, least = Resources(flash=1_000, sram=1_000, macs=10**9), Resources(flash=0, sram=200, macs=0)
    assert shrinkage(Budget(sram=300), Budget(sram=600), dense) == 2
    assert shrinkage(Budget(sram=300), Budget(sram=600), dense, least) == 4
    assert shrinkage(Budget(sram=300), Budget(), dense, least) == 8
    assert shrinkage(Budget(flash=500, sram=600), Budget(sram=600), dense, least) == 2
    assert shrinkage(Budget(sram=200), Budget(sram=600), dense, least) == float("inf")


def test_a_plan_that_knows_what_widths_cannot_change_trains_longer():
    sweep = lineage_sweep([{"name": "a", "flash": 40_000}, {"name": "b", "flash": 30_000}], training={"epochs": 20})
    use = asdict(Resources(flash=20_000, sram=0, macs=0))
    facts = {LEAST: {network_key(sweep.network.choices()[0], ()): use}}
    dense = Resources(flash=60_000, sram=50_000, macs=10**6)

    def epochs(plan: Plan) -> dict[str, int]:
        return {trial.budget.name: plan.expected_epochs(trial, dense) for trial in plan.trials}

    assert epochs(Plan(sweep, least_of({}))) == {"dense parent": 40, "a": 10, "b": 10}
    assert epochs(Plan(sweep, least_of(facts))) == {"dense parent": 40, "a": 12, "b": 12}


def test_what_goes_against_a_lineage_is_refused():
    with pytest.raises(InputError, match=r"hyperparameters\.parent_epochs: with lineage"):
        Plan(lineage_sweep(hyperparameters={"parent_epochs": 3})).check()
    with pytest.raises(ValueError, match="goes with enabled = true only"):
        lineage_sweep(lineage={"enabled": False, "parent_epochs": 4})
