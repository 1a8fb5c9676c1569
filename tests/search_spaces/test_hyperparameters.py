import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import TypeAdapter, ValidationError

from search_spaces.hyperparameters import Range, distributions, fixed_values
from search_spaces.sweep import Searched

SPACE = TypeAdapter(dict[str, Searched])


def parse(value):
    return SPACE.validate_python({"it": value})["it"]


@pytest.mark.parametrize(
    ("table", "distribution"),
    [
        ({"low": 0.01, "high": 0.3, "log": True}, FloatDistribution(0.01, 0.3, log=True)),
        ({"low": 0.0, "high": 1.0, "step": 0.25}, FloatDistribution(0.0, 1.0, step=0.25)),
        ({"low": 1, "high": 8}, IntDistribution(1, 8)),
        ({"low": 8, "high": 64, "step": 8}, IntDistribution(8, 64, step=8)),
        ({"low": 0, "high": 0.5}, FloatDistribution(0.0, 0.5)),
        ({"choices": ["sgd", "adam"]}, CategoricalDistribution(["sgd", "adam"])),
        ({"choices": [True, 1, 1.5]}, CategoricalDistribution([True, 1, 1.5])),
    ],
)
def test_tables_become_optuna_distributions(table, distribution):
    assert distributions({"it": parse(table)}) == {"it": distribution}


@pytest.mark.parametrize("value", [0.1, 3, True, "adam", -1.5])
def test_a_value_is_fixed_and_keeps_its_type(value):
    space = {"it": parse(value)}
    assert fixed_values(space) == {"it": value}
    assert type(fixed_values(space)["it"]) is type(value)
    assert distributions(space) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"low": 1, "high": 1}, "low must be less than high"),
        ({"low": 0, "high": 1, "log": True}, "more than 0 when log"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "log = false only"),
        ({"low": 1, "high": 9, "step": 0}, "more than 0"),
        ({"low": 1, "high": 9, "step": 0.5}, "whole number"),
        ({"low": "1", "high": 9}, "low"),
        ({"low": float("nan"), "high": 9}, "finite"),
        ({"low": 1}, "high"),
        ({"low": 1, "high": 2, "mid": 3}, "mid"),
        ({"choices": []}, "at least 1"),
        ({"choices": [1, 1]}, "each must be there once"),
        ({"choices": [[1]]}, "choices"),
        ({}, "is not a hyperparameter"),
        ([1, 2], "is not a hyperparameter"),
        (None, "is not a hyperparameter"),
        (float("inf"), "finite"),
    ],
)
def test_nonsense_is_refused(value, message):
    with pytest.raises(ValidationError, match=message):
        parse(value)


NUMBERS = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))
TABLES = st.one_of(
    st.tuples(NUMBERS, NUMBERS).filter(lambda pair: pair[0] < pair[1]).map(lambda p: {"low": p[0], "high": p[1]}),
    st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1, max_size=5, unique=True).map(
        lambda values: {"choices": values}
    ),
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)),
)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=6), TABLES, max_size=4))
def test_json_brings_the_same_space_back(tables):
    space = SPACE.validate_python(tables)
    again = SPACE.validate_json(SPACE.dump_json(space))
    assert again == space
    assert {name: type(value) for name, value in again.items()} == {name: type(value) for name, value in space.items()}


@given(st.integers(0, 50), st.integers(1, 50))
def test_whole_ranges_stay_whole(low, width):
    bounds = Range(low=low, high=low + width)
    assert isinstance(bounds.distribution(), IntDistribution)
