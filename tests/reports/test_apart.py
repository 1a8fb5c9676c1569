"""Winners under noise: two models on the same validation samples, and which of several to take."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mcu.errors import InputError
from reports.apart import Choice, Validation, alone, chance, choose, size, told_apart
from reports.trials import tidy
from reports.winners import winners

RNG = np.random.default_rng(0)
BOUNDS = {"device": None, "budget_flash": 100_000, "budget_sram": 50_000, "budget_macs": 10**9}


def answers(*wrong, count=500, samples="same"):
    """Wrong on these ranges of the samples."""
    right = np.ones(count, bool)
    for start, end in wrong:
        right[start:end] = False
    return Validation(right, samples)


def test_the_exact_test_is_the_binomial_one_over_samples_that_only_one_gets_right():
    for _ in range(20):
        first, second = (Validation(RNG.random(300) < rate, "") for rate in (0.8, 0.74))
        one, other = alone(first, second)
        assert chance(first, second) == pytest.approx(binomtest(one, one + other).pvalue)
    assert chance(first, first) == 1.0
    assert chance(answers((0, 3000), count=4000), answers(count=4000)) == 0.0


def test_answers_are_kept_a_bit_each():
    labels = RNG.integers(0, 10, 1001)
    kept = Validation.of(labels, np.where(RNG.random(1001) < 0.2, labels + 1, labels))
    data = kept.encode()
    assert len(data) < 250
    again = Validation.decode(data)
    assert np.array_equal(again.right, kept.right)
    assert again.samples == kept.samples != Validation.of(labels[::-1], labels).samples


@pytest.mark.parametrize("text", [b"{}", b"[]", b"\xff", b'{"count": 9999999999, "right": "AAAA", "samples": ""}'])
def test_answers_that_are_damaged_are_refused(text):
    with pytest.raises(InputError, match="not as they were written"):
        Validation.decode(text)


def test_the_smallest_within_one_standard_error_of_the_highest_is_chosen():
    models = [
        ("highest", 90, answers((0, 50))),
        ("near", 60, answers((2, 53))),  # 1 behind, 5 differ
        ("not apart", 40, answers((4, 60))),  # 6 behind, 14 differ: more than a standard error, less than the test's
        ("apart", 20, answers((0, 90))),  # 40 behind, 40 differ
    ]
    found = choose(models, lambda model: model[2], lambda model: model[1])
    assert found == Choice(chosen=1, as_good=(0, 1, 2), samples=500)
    assert told_apart(models[0][2], models[3][2])
    assert choose(models[:1], lambda model: model[2], lambda model: model[1]) == Choice(0, (0,), 500)


def test_a_model_that_cannot_be_compared_is_not_chosen_for_its_size():
    models = [("highest", 90, answers((0, 50))), ("unknown", 5, None), ("near", 60, answers((2, 53)))]
    assert choose(models, lambda model: model[2], lambda model: model[1]) == Choice(2, (0, 2), 500)


def test_without_knowing_the_samples_the_highest_wins():
    models = [("highest", 90, answers((0, 50))), ("smaller", 10, answers((0, 51), samples="others"))]
    assert choose(models, lambda model: model[2], lambda model: model[1]) == Choice(0, (0,), 500)
    assert choose(models, lambda model: None, lambda model: model[1]) == Choice()
    assert choose([], lambda model: None, lambda model: 0) == Choice()


def test_a_tenth_less_of_any_resource_is_as_much_smaller():
    assert size(900, 100, 10) == size(1000, 90, 10) == size(1000, 100, 9) < size(1000, 100, 10)


def test_winners_of_a_report_know_their_equals():
    rows = [
        {"number": 10 + place, "method": "l1", "flash": flash, "sram": 1000, "macs": 10, "val_accuracy": value}
        | {"accuracy": value, "state": "complete", "feasible": True, "violation": 0.0, "seed": 0, **BOUNDS}
        for place, (flash, value) in enumerate(((90_000, 0.9), (60_000, 0.898), (20_000, 0.82)))
    ]
    known = {10: answers((0, 50)), 11: answers((2, 53)), 12: answers((0, 90))}
    table = tidy(pd.DataFrame(rows))
    (winner,) = winners(table, validation=known.get)
    assert (winner.row, winner.highest, winner.as_good, winner.runners_up) == (1, 0, (0,), (0, 2))
    assert winner.samples == 500
    (plain,) = winners(table)
    assert (plain.row, plain.as_good, plain.samples) == (0, (), 0)
