"""The recipe takes what is allowed and names what is not."""

import pytest

from mcu.errors import InputError
from pruning.training.recipe import TRAINING, Recipe


def test_names_of_a_method_are_left_to_it():
    recipe = Recipe.of({"learning_rate": 0.3, "pretrain": 0.5}, 5)
    assert recipe == Recipe(learning_rate=0.3)


def test_every_field_is_a_hyperparameter_of_all_methods():
    assert set(TRAINING) == set(Recipe.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", 0, "more than 0"),
        ("weight_decay", -1e-4, "0 or more"),
        ("label_smoothing", 1.0, "0 to less than 1"),
        ("int8_part", 1, "0 to less than 1"),
        ("int8_part", True, "a finite number"),
        ("weight_decay", float("nan"), "a finite number"),
        ("recalibration", 1, "true or false"),
        ("halving", "no", "true or false"),
        ("averaging", -1, "0 or more"),
        ("parent_epochs", 5, "0 to 4"),
        ("parent_epochs", 1.5, "whole number"),
        ("start", "nowhere", "'scratch' or 'parent'"),
        ("start", "parent", "needs parent_epochs"),
        ("distillation", 1.1, "0 to 1"),
        ("distillation", 0.5, "needs parent_epochs"),
        ("distillation_temperature", 0, "more than 0"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(name, value, allowed):
    with pytest.raises(InputError, match=rf"^hyperparameters\.{name} = {value}: .*{allowed}"):
        Recipe.of({name: value}, 5)
