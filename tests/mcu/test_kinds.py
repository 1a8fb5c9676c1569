"""Every operator is known on every floor: a table that lacks one fails here, and not in a user's export."""

import pytest

from mcu import resource_model
from mcu.cost import arena
from mcu.firmware import calls, prediction
from mcu.graph.kinds import Kind
from mcu.int8 import folded_net, lookup, reference_interpreter
from mcu.tflite import reader, schema
from mcu.tracing.rules import RULES
from mcu.tracing.vocabulary import VOCABULARY

FOREIGN = {Kind.DENSE, Kind.MEAN, Kind.RESHAPE, Kind.SOFTMAX}
"""Read from the files of others, never written by us."""

TABLES = {
    "operator codes": schema.KIND_CODE,
    "operator versions": schema.KIND_VERSION,
    "reader": reader._RULES,
    "reference interpreter": reference_interpreter._RULES,
    "arena, parsed options": arena._PARAMETERS,
    "arena, kernel data": arena._KERNEL_DATA,
    "firmware calls": calls._LOWERINGS,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_knows_every_kind(name):
    assert set(TABLES[name]) == set(Kind)


def test_resources_and_predictions_know_what_is_exported():
    assert set(resource_model.RULES) == set(Kind) - FOREIGN
    assert set(prediction._PLAIN) == set(Kind) - {Kind.DEPTHWISE, Kind.RESHAPE}


def test_every_kind_has_another_operator_code():
    assert len(set(schema.KIND_CODE.values())) == len(Kind)
    assert all(code in schema.OPERATOR_NAMES for code in schema.KIND_CODE.values())


def test_every_table_of_codes_has_a_floating_point_function():
    assert set(folded_net._FUNCTIONS) == set(lookup.TABLES)
    assert set(lookup.FIXED_RANGES) <= set(lookup.TABLES)


def test_the_page_of_operators_has_every_rule():
    written = [rule for word in VOCABULARY for rule in word.rules]
    assert len(written) == len(set(written))
    assert set(written) == set(RULES)
