"""A new operator has to enter every table that is keyed by operators: each that lacks it is named here."""

import importlib
import pkgutil

import pytest

import mcu
from mcu.cost.arena import SCRATCH
from mcu.graph.kinds import Kind
from mcu.int8 import calibration, folded_net
from mcu.int8.lookup import FIXED_RANGES, TABLES
from mcu.tracing.rules import RULES
from mcu.tracing.vocabulary import VOCABULARY

FOREIGN = {Kind.DENSE, Kind.MEAN, Kind.RESHAPE, Kind.SOFTMAX}
SOME = (TABLES, FIXED_RANGES, folded_net._FUNCTIONS, calibration._FINEST, SCRATCH)
"""Tables of some operators on purpose."""

UNTOLD = {Kind.PADV2, Kind.ELU, Kind.RELU, Kind.LOGISTIC, Kind.TANH, Kind.HARD_SWISH, Kind.RESIZE, Kind.PRELU}
"""Operators without options, or with all of them by default."""

BY_SHAPE = {Kind.CONV, Kind.DENSE, Kind.DEPTHWISE}
"""Operators whose kernel in the firmware depends on their shape."""

WITHOUT = {
    ("mcu.resource_model", "RULES"): FOREIGN,  # networks that are pruned become none of them
    ("mcu.tflite.schema", "KIND_OPTIONS"): UNTOLD,
    ("mcu.firmware.prediction", "_PLAIN"): BY_SHAPE | {Kind.RESHAPE},  # no kernel at all
}


def tables():
    for found in pkgutil.walk_packages(mcu.__path__, "mcu."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, dict) and value and all(isinstance(key, Kind) for key in value):
                if any(value is some for some in SOME):
                    continue
                yield pytest.param((found.name, name), set(value), id=f"{found.name}.{name}")


@pytest.mark.parametrize(("place", "kinds"), tables())
def test_every_table_of_operators_has_each(place, kinds):
    assert set(Kind) - kinds == WITHOUT.get(place, set())


def test_random_models_hold_every_operator(random_model, foreign_model):
    models = [make(seed) for make in (random_model, foreign_model) for seed in range(60)]
    assert {op.kind for model in models for op in model.ops} == set(Kind)


def test_every_operator_that_is_a_table_has_a_floating_point_function():
    assert set(folded_net._FUNCTIONS) == set(TABLES)
    assert set(FIXED_RANGES) <= set(TABLES)


def test_the_page_of_operators_has_every_rule():
    written = [rule for word in VOCABULARY for rule in word.rules]
    assert len(written) == len(set(written))
    assert set(written) == set(RULES)
