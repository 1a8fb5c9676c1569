"""Fronts against brute force, hypervolumes against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reports.fronts import (
    Box,
    attained,
    attainment_surface,
    best_row,
    box_of,
    fits,
    front_rows,
    hypervolume,
    hypervolume_steps,
    nondominated,
)

small = st.integers(0, 6).map(float) | st.just(float("nan"))


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4).flatmap(lambda k: arrays(float, st.tuples(st.integers(1, 12), st.just(k)), elements=small)))
def test_nondominated_agrees_with_brute_force(points):
    mask = nondominated(points)
    for row, point in enumerate(points):
        if np.isnan(point).any():
            expected = False
        else:
            known = points[~np.isnan(points).any(axis=1)]
            earlier = any((points[other] == point).all() for other in range(row))
            expected = not any(dominates(other, point) for other in known) and not earlier
        assert mask[row] == expected


def test_nondominated_of_nothing_is_nothing():
    assert nondominated(np.empty((0, 2))).tolist() == []


def test_front_rows_come_by_growing_resource_and_skip_the_ineligible():
    resource, score = [5, 1, 3, 2, 9], [0.9, 0.5, 0.8, 0.7, 0.99]
    assert front_rows(resource, score, [True, True, True, False, True]).tolist() == [1, 2, 0, 4]
    assert front_rows(resource, score, [False] * 5).tolist() == []


def test_best_row_breaks_ties_by_cost_then_order():
    assert best_row([0.9, 0.95, 0.95, 0.95], [1, 1, 1, 1], [1, 7, 5, 5]) == 2
    assert best_row([0.9, np.nan], [1, 1], [1, 1]) == 0
    assert best_row([0.9], [False], [1]) is None


def test_unknown_use_never_fits():
    used = {"flash": [10, np.nan, 30], "sram": [1, 1, 1]}
    assert fits(used, {"flash": 20}).tolist() == [True, False, False]
    assert fits(used, {}).tolist() == [True, True, True]


def test_hypervolume_of_known_shapes():
    assert hypervolume(np.array([[0.0]]), [0.8]) == pytest.approx(0.8)
    assert hypervolume(np.array([[0.5]]), [0.8]) == pytest.approx(0.4)
    assert hypervolume(np.array([[0.0], [0.5]]), [0.5, 0.9]) == pytest.approx(0.5 * 0.5 + 0.5 * 0.9)
    assert hypervolume(np.array([[0.0, 0.5, 0.5]]), [0.8]) == pytest.approx(0.8 * 0.25)
    assert hypervolume(np.array([[0.0], [1.0], [np.nan]]), [0.5, 0.9, 1.0]) == pytest.approx(0.5)
    assert hypervolume(np.empty((0, 3)), []) == 0.0


def test_hypervolume_is_mean_accuracy_over_log_uniform_budgets():
    generator = np.random.default_rng(0)
    used = {name: np.exp(generator.uniform(3, 9, 20)) for name in ("flash", "sram", "macs")}
    accuracy = generator.uniform(0.5, 1, 20)
    box = Box(dict.fromkeys(used, np.exp(3)), dict.fromkeys(used, np.exp(9)))
    budgets = np.exp(generator.uniform(3, 9, (20_000, 3)))
    fit = (np.column_stack(list(used.values()))[None] <= budgets[:, None]).all(axis=2)
    expected = np.where(fit, accuracy, 0).max(axis=1).mean()
    assert hypervolume(box.scale(used, tuple(used)), accuracy) == pytest.approx(expected, abs=0.01)


def test_hypervolume_steps_equal_hypervolumes_of_prefixes():
    generator = np.random.default_rng(1)
    scaled, accuracy = generator.uniform(0, 1, (60, 3)), generator.uniform(0, 1, 60)
    counts, volumes = hypervolume_steps(scaled, accuracy, points=13)
    assert counts[0] == 1
    assert counts[-1] == 60
    assert volumes == pytest.approx([hypervolume(scaled[:count], accuracy[:count]) for count in counts])
    assert (np.diff(volumes) >= -1e-12).all()


def test_box_holds_every_measurement_and_needs_one_of_each():
    used = {"flash": [10.0, np.nan, 1000.0], "sram": [5.0, 7.0, 9.0], "macs": [1.0, 2.0, 3.0]}
    scaled = box_of(used).scale(used, ("flash", "sram", "macs"))
    known = scaled[np.isfinite(scaled)]
    assert known.min() == 0
    assert known.max() < 1
    assert box_of(used | {"macs": [np.nan] * 3}) is None


def test_attained_reports_the_test_accuracy_of_the_model_chosen_by_validation():
    resource, val, test = [1, 2, 3], [0.5, 0.7, 0.6], [0.4, 0.3, 0.9]
    curve = attained(resource, val, test, [0, 1, 1.5, 2, 100])
    assert np.isnan(curve[0])
    assert curve[1:].tolist() == [0.4, 0.4, 0.3, 0.3]


def test_attainment_surface_is_worst_median_best_over_seeds():
    curves = [np.array([np.nan, 0.5]), np.array([0.4, 0.7]), np.array([0.2, 0.6])]
    worst, median, best = attainment_surface(curves)
    assert worst.tolist() == [0, 0.5]
    assert median.tolist() == [0.2, 0.6]
    assert best.tolist() == [0.4, 0.7]
