from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.terms import RuntimeName
from orchestrator.samplers.base import Context, Past, derive_seed
from orchestrator.samplers.observation import Observation, observe
from orchestrator.samplers.registry import make_sampler
from orchestrator.samplers.sequence import axis_values
from orchestrator.spec import TrialResult
from search_spaces.terms import SamplerName

SPACE = {"rate": FloatDistribution(0.01, 1.0, log=True), "kind": CategoricalDistribution(["a", "b"])}
SPACES = {"one": SPACE, "two": SPACE, "fixed": {}}
CONTEXT = Context(Budget(flash=65536), "net", cells=2)
TRIALS = 60  # more than a generation


def good(value: float) -> Observation:
    return Observation("complete", (value, 1.0, 1.0, 1.0), {"flash": -0.1})


@pytest.mark.parametrize("name", list(SamplerName))
def test_every_sampler_stays_in_its_space_and_copes_with_an_empty_one(name):
    sampler = make_sampler(name, SPACES, 0)
    for index in range(15):
        params = sampler.suggest("one", index, CONTEXT)
        assert 0.01 <= params["rate"] <= 1.0
        assert params["kind"] in ("a", "b")
        sampler.learn("one", index, good(params["rate"]))
    assert sampler.suggest("fixed", 0, CONTEXT) == {}
    sampler.learn("fixed", 0, good(1.0))


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_sequences_depend_on_the_index_alone(name):
    forward, backward = make_sampler(name, SPACES, 3), make_sampler(name, SPACES, 3)
    points = [forward.suggest("one", index, Context()) for index in range(8)]
    assert points == [backward.suggest("one", index, Context()) for index in reversed(range(8))][::-1]
    assert points == [forward.suggest("two", index, Context()) for index in range(8)]
    assert len({point["rate"] for point in points}) > 3


def test_a_grid_shows_every_point_to_every_budget():
    sampler = make_sampler("grid", {"one": {"kind": CategoricalDistribution(["a", "b"])}}, 0)
    context = Context(cells=3)
    assert [sampler.suggest("one", index, context)["kind"] for index in range(6)] == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize(("seeds", "points"), [(3, 3), (2, 4), (4, 6), (3, 2), (1, 3)])
def test_a_grid_shows_every_point_with_every_seed(seeds, points):
    sampler = make_sampler("grid", {"one": {"kind": CategoricalDistribution(list("abcdef")[:points])}}, 0)
    context = Context(cells=2, seeds=seeds)
    for cell in range(2):
        kinds = [sampler.suggest("one", cell + 2 * turn, context)["kind"] for turn in range(seeds * points)]
        assert len({(kind, turn % seeds) for turn, kind in enumerate(kinds)}) == seeds * points


def test_every_budget_gets_sobol_points_of_the_whole_range():
    sampler = make_sampler("qmc", SPACES, 0)
    context = Context(cells=8)
    for cell in range(8):
        rates = [float(sampler.suggest("one", cell + 8 * turn, context)["rate"]) for turn in range(8)]
        assert sorted(int(4 * (1 + math.log10(rate) / 2)) for rate in rates) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("name", ["tpe", "optuna-tpe"])
def test_tpe_learns_where_the_good_results_are(name):
    sampler = make_sampler(name, SPACES, 0)
    rates = []
    for index in range(80):
        rates.append(float(sampler.suggest("one", index, CONTEXT)["rate"]))
        sampler.learn("one", index, good(rates[-1]))
    assert sum(rate > 0.3 for rate in rates[40:]) >= 20  # a random sampler's share is a quarter


@pytest.mark.parametrize("name", ["tpe", "optuna-tpe", "nsga2", "nsga3"])
def test_a_restored_sampler_goes_on_as_the_first_would_have(name):
    first, second = make_sampler(name, SPACES, 0), make_sampler(name, SPACES, 0)
    for index in range(TRIALS):
        suggestion = first.suggest("one", index, CONTEXT)
        first.learn("one", index, good(float(suggestion["rate"])))
        second.restore(Past("one", suggestion, CONTEXT, good(float(suggestion["rate"])), index))
    assert first.suggest("one", TRIALS, CONTEXT) == second.suggest("one", TRIALS, CONTEXT)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(InputError, match="allowed: tpe, optuna-tpe"):
        make_sampler("magic", SPACES, 0)


def test_axes_of_a_grid():
    assert axis_values(CategoricalDistribution(["x", "y"])) == ["x", "y"]
    assert axis_values(IntDistribution(1, 4)) == [1, 2, 3, 4]
    assert axis_values(IntDistribution(1, 1000, log=True)) == [1, 6, 32, 178, 1000]
    assert axis_values(FloatDistribution(0.0, 1.0, step=0.5)) == [0.0, 0.5, 1.0]
    assert axis_values(FloatDistribution(0.01, 1.0, log=True)) == pytest.approx([0.01, 0.0316228, 0.1, 0.316228, 1.0])


@given(st.lists(st.integers() | st.text(), max_size=4), st.lists(st.integers() | st.text(), max_size=4))
def test_seeds_differ_when_their_parts_do(a, b):
    assert 0 <= derive_seed(*a) < 2**31
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


def test_constraints_are_relative_to_the_bounds():
    result = TrialResult(state="complete", val_accuracy=0.9, flash=150, sram=50, macs=10)
    assert observe(result, Budget(flash=100, sram=100), RuntimeName.TFLM).constraints == {"flash": 0.5, "sram": -0.5}


@pytest.mark.parametrize("state", ["failed", "infeasible", "stopped"])
def test_trials_without_a_full_result_are_told_as_infeasible(state):
    outcome = observe(TrialResult(state=state, flash=1, sram=1, macs=1), Budget(flash=100), RuntimeName.TFLM)
    assert outcome.values is None
    assert all(value > 0 for value in outcome.constraints.values())


def test_a_complete_trial_without_figures_is_told_as_failed():
    result = TrialResult(state="complete", val_accuracy=0.9)
    assert observe(result, Budget(flash=1), RuntimeName.TFLM).state == "failed"


def test_an_ask_of_the_default_sampler_is_cheap_after_ten_thousand_trials():
    space = {name: FloatDistribution(1e-5, 1.0, log=True) for name in ("a", "b", "c", "d")}
    sampler = make_sampler("tpe", {"one": space}, 0)
    for index in range(10_000):
        budget = Budget(flash=4_096 + 64 * (index % 500), sram=8_192)
        sampler.restore(Past("one", dict.fromkeys(space, 0.1), Context(budget, "net"), good(0.9), index))
    begin = time.process_time()
    sampler.suggest("one", 10_000, CONTEXT)
    assert time.process_time() - begin < 0.1
