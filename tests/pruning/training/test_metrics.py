import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from mcu.errors import InputError
from pruning.training.evaluation import float_logits
from pruning.training.metrics import Metric, accuracy, class_scores, class_weights, confusion, macro_f1
from pruning.training.objective import Objective
from pruning.training.problem import Problem, Settings
from pruning.training.steps import Trainer

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(pairs)
def test_scores_are_those_of_scikit_learn(pairs):
    labels, predicted = (np.array(values) for values in zip(*pairs, strict=True))
    counts = confusion(labels, predicted, 4)
    known = {"labels": range(4), "zero_division": 0}
    assert accuracy(counts) == pytest.approx(accuracy_score(labels, predicted))
    assert macro_f1(counts) == pytest.approx(f1_score(labels, predicted, average="macro", **known))
    theirs = np.array(precision_recall_fscore_support(labels, predicted, **known)).T
    ours = [(score.precision, score.recall, score.f1, score.samples) for score in class_scores(counts)]
    assert np.allclose(ours, theirs)


@given(st.lists(st.integers(0, 2), max_size=50), st.sampled_from([0.0, 0.5, 1.0]))
def test_weights_average_one_over_the_samples(labels, strength):
    labels = np.array([*labels, 0, 1, 2])
    weights = class_weights(labels, 3, strength)
    assert weights[labels].mean() == pytest.approx(1, abs=1e-5)
    if strength == 1:
        assert np.allclose(weights * np.bincount(labels), len(labels) / 3, rtol=1e-5)
    if strength == 0:
        assert np.allclose(weights, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion(np.zeros(3, int), np.zeros(4, int), 2), r"\(3,\) labels and \(4,\) predictions"),
        (lambda: confusion(np.array([0, 2]), np.array([0, 1]), 2), "classes go from 0 to 2, must be 0 to 1"),
        (lambda: class_weights(np.array([0, 0, 2]), 3), r"needs a sample, counts are \[2, 0, 1\]"),
        (lambda: class_weights(np.array([0, 1]), 2, 2.0), "strength = 2.0: must be 0 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def rare_problem(weights):
    """Two classes that overlap, one of them in one sample of ten."""
    rng = np.random.default_rng(0)
    y = (np.arange(400) % 10 == 0).astype(np.int64)
    x = (rng.normal(size=(400, 1, 4, 4)) + 0.5 * y[:, None, None, None]).astype(np.float32)

    def network():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2)
        )

    return Problem(
        network, (1, 4, 4), 2, x, y, x, y, objective=Objective(metric=Metric.MACRO_F1), class_weights=weights
    )


def trained_counts(weights):
    problem = rare_problem(weights)
    trainer = Trainer(problem.network(), problem, Settings(epochs=6, batch_size=40))
    for step in range(trainer.steps):
        trainer.take_step(step)
    predicted = float_logits(trainer.module, problem.x_val, problem).argmax(1).numpy()
    counts = confusion(problem.y_val, predicted, 2)
    assert trainer.val_accuracy() == pytest.approx(macro_f1(counts), abs=0.05)  # bfloat16 may flip a sample
    return counts


def test_weights_make_a_rare_class_heard():
    plain, weighed = trained_counts(0.0), trained_counts(1.0)
    assert class_scores(plain)[1].recall < 0.5
    assert class_scores(weighed)[1].recall > 0.6
    assert macro_f1(weighed) > macro_f1(plain)
