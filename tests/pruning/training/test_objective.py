"""Losses and scores of all kinds of tasks, against values worked out by hand or by another way of counting."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, r2_score

from mcu.errors import InputError
from mcu.score import SCORES, SUITS, check_metric, score_of
from mcu.terms import Metric, TaskKind
from pruning.training.objective import Objective, auc, average_precision, cell_f1, r2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order(pairs):
    abnormal, suspicion = np.array([a for a, _ in pairs]), np.array([float(s) for _, s in pairs])
    bad, good = suspicion[abnormal], suspicion[~abnormal]
    counted = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert auc(abnormal, suspicion) == pytest.approx(np.mean(counted) if counted else 0.5)


def test_average_precision_is_the_mean_of_the_precisions_at_each_hit():
    assert average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(3), np.arange(3.0)) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_average_precision_of_tied_outputs_is_that_of_scikit_learn_in_any_order(pairs):
    present, outputs = np.array([p for p, _ in pairs]), np.array([float(o) for _, o in pairs])
    expected = average_precision_score(present, outputs) if present.any() else 0.0
    assert average_precision(present, outputs) == pytest.approx(expected)
    assert average_precision(present[::-1], outputs[::-1]) == pytest.approx(expected)


def test_values_are_explained_by_each_in_its_own_unit():
    targets = np.array([[0.0, 100.0], [2.0, 300.0]])
    assert r2(targets, targets) == 1
    assert r2(targets, np.tile(targets.mean(0), (2, 1))) == 0
    assert r2(targets, targets + np.array([1, 0])) == pytest.approx(0.5)


@pytest.mark.parametrize(("unit", "offset"), [(1e-8, 0.0), (1e-25, 0.0), (1.0, 1e6)])
def test_what_is_explained_does_not_depend_on_the_unit_or_the_zero_of_the_targets(unit, offset):
    rng = np.random.default_rng(0)
    targets = (unit * rng.normal(size=(20_000, 1)) + offset).astype(np.float32)
    close = (targets + 0.3 * unit * rng.normal(size=targets.shape)).astype(np.float32)
    assert r2(targets, close) == pytest.approx(r2_score(targets.astype(float), close.astype(float)), abs=1e-9)
    objective = Objective(TaskKind.REGRESSION, Metric.R2).fitted(targets)
    assert objective.means[0] == pytest.approx(targets.astype(float).mean(), abs=1e-4 * unit)
    assert objective.score(targets, np.zeros((20_000, 1), np.float32), targets) == pytest.approx(0, abs=1e-6)


def test_cells_count_where_the_class_is_right():
    targets, called = np.array([[0, 1, 2, 0]]), np.array([[0, 1, 1, 2]])
    assert cell_f1(targets, called) == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert cell_f1(targets, np.zeros_like(targets)) == 0


def test_a_regression_learns_in_deviations_and_is_judged_in_its_own_unit():
    targets = np.array([[10.0], [20.0], [30.0]], np.float32)
    objective = Objective(TaskKind.REGRESSION, Metric.MAE).fitted(targets)
    answers = (targets - 20) / targets.std()
    assert objective.score(targets, answers, answers) == pytest.approx(0, abs=1e-5)
    assert objective.score(targets, np.zeros_like(targets), answers) == pytest.approx(-20 / 3)
    x = torch.zeros(3, 1)
    assert float(objective.loss(torch.from_numpy(answers), x, torch.from_numpy(targets))) == pytest.approx(0, abs=1e-6)

    told = []
    own = Objective(TaskKind.REGRESSION, loss_function=lambda y, t: told.append((y, t)) or (y - t).sum()).fitted(
        targets
    )
    own.loss(torch.from_numpy(answers), x, torch.from_numpy(targets))
    torch.testing.assert_close(told[0][0], torch.from_numpy(targets))


def test_a_reconstruction_is_held_against_its_input():
    inputs = torch.arange(12.0).view(3, 1, 2, 2)
    objective = Objective(TaskKind.RECONSTRUCTION, Metric.AUC)
    outputs = inputs.flatten(1).clone()
    outputs[2] += 3
    assert float(objective.loss(outputs, inputs, torch.zeros(3))) == pytest.approx(3.0)
    assert objective.score(np.array([0, 0, 1]), outputs.numpy(), inputs.numpy()) == 1.0
    assert objective.score(np.array([1, 1, 0]), outputs.numpy(), inputs.numpy()) == 0.0


def test_a_recording_is_judged_by_the_mean_error_of_its_samples():
    errors = np.sqrt(np.array([9.0, 1.0, 2.0, 2.0, 6.0, 6.0]))  # a normal sample is the worst; its recording is not
    targets = np.array([[0, 7], [0, 7], [0, 2], [0, 2], [1, 4], [1, 4]])
    objective = Objective(TaskKind.RECONSTRUCTION, Metric.AUC)
    inputs = np.zeros((6, 1, 1, 1))
    assert objective.score(targets[:, 0], errors[:, None], inputs) < 1.0
    assert objective.score(targets, errors[:, None], inputs) == 1.0
    told = []
    own = Objective(TaskKind.RECONSTRUCTION, score_function=lambda t, e: told.append((t, e)) or 0.0)
    own.score(targets, errors[:, None], inputs)
    assert told[0][0].tolist() == [0, 1, 0]
    assert told[0][1] == pytest.approx([2.0, 6.0, 5.0])


def test_every_kind_trains_downhill_on_its_own_targets():
    torch.manual_seed(0)
    targets = {
        TaskKind.CLASSIFICATION: torch.randint(0, 3, (16,)),
        TaskKind.MULTI_LABEL: torch.randint(0, 2, (16, 3)).float(),
        TaskKind.REGRESSION: torch.randn(16, 3),
        TaskKind.RECONSTRUCTION: torch.zeros(16),
        TaskKind.GRID: torch.randint(0, 3, (16, 2, 2)),
    }
    assert set(targets) == set(TaskKind) == set(SUITS)
    for kind, wanted in targets.items():
        objective = Objective(kind, SUITS[kind][0])
        inputs = torch.randn(16, 3, 1, 1)
        outputs = torch.zeros(16, 12 if kind is TaskKind.GRID else 3, requires_grad=True)
        losses = []
        for _ in range(30):
            loss = objective.loss(outputs, inputs, wanted)
            (gradient,) = torch.autograd.grad(loss, outputs)
            losses.append(loss.item())
            outputs = (outputs - 10 * gradient).detach().requires_grad_()
        assert losses[-1] < 0.5 * losses[0], kind


def test_scores_know_unit_and_direction():
    assert score_of("accuracy").shown(0.9123) == "91.23 %"
    assert score_of("accuracy").change(0.0123) == "+1.23"
    assert score_of("accuracy").apart(-0.0123) == "1.23 points"
    assert score_of(Metric.MAE).change(-2.9 - -3.2) == "-0.3"  # 2.9 less 3.2, as they are shown
    assert score_of(Metric.MAE).change(0.0) == "+0"
    assert score_of("own:decibels").change(-1.5) == "-1.5"
    assert score_of("own:decibels").apart(-1.5) == "1.5"
    mae = score_of(Metric.MAE)
    assert (mae.shown(-0.125), mae.axis) == ("0.125", "mean absolute error (lower is better)")
    own = score_of("regression:within_ten")
    assert (own.title, own.shown(0.5)) == ("within_ten", "0.5")
    assert {metric for metrics in SUITS.values() for metric in metrics} == set(SCORES) == set(Metric)


def test_a_metric_that_does_not_suit_is_refused_with_those_that_do():
    with pytest.raises(InputError, match=r"'accuracy': does not suit the task 'gas', .* allowed are 'r2', 'mae'"):
        check_metric(TaskKind.REGRESSION, "accuracy", "gas")
    check_metric(TaskKind.REGRESSION, "mine:score", "gas")


@pytest.mark.parametrize(("value", "message"), [(None, "NoneType"), (float("nan"), "must be finite")])
def test_a_score_of_ones_own_that_is_no_number_is_refused(value, message):
    objective = Objective(score_function=lambda targets, outputs: value)
    with pytest.raises(InputError, match=message):
        objective.score(np.zeros(2, int), np.zeros((2, 2)), np.zeros(2))
