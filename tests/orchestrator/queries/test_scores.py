"""The metric a sweep optimises, from the sweep file to its trials, their scores by class, and every label."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pytest

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.score import SCORES
from mcu.terms import Metric
from orchestrator.cli import main as cli
from orchestrator.planning.objective import check_objective
from orchestrator.queries.best import find_best
from orchestrator.queries.export import model_card, reading
from orchestrator.queries.query import Query, run_query
from orchestrator.queries.trial import load_trial
from orchestrator.spec import TrialSpec
from orchestrator.storage.store import Store, Study
from search_spaces.choices import TrainingChoice
from search_spaces.sweep import SweepConfig
from search_spaces.tasks.arrays import from_arrays

SWEEP = """
[sweep]
name = "rare"
trials = 1
[task]
name = "arrays"
path = "rare.npz"
[network]
name = "plain-cnn"
width = 0.2
[budgets]
list = [{flash = "40KB", sram = "20KB"}]
[methods]
names = ["uniform"]
[training]
epochs = 4
batch_size = 16
device = "cpu"
metric = "macro_f1"
class_weights = 1
[hyperparameters]
learning_rate = 0.05
[workers]
executor = "local"
count = 1
"""


def write_rare(folder):
    """Two classes that overlap, one of them in eight of ten samples."""
    rng = np.random.default_rng(0)
    y = np.array(["often"] * 240 + ["rare"] * 60)
    x = rng.normal(size=(300, 1, 8, 8)).astype(np.float32)
    x[y == "rare"] += 0.4
    np.savez(folder / "rare.npz", x=x, y=y)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, patch = tmp_path_factory.mktemp("rare"), pytest.MonkeyPatch()
    patch.chdir(folder)
    write_rare(folder)
    (folder / "sweep.toml").write_text(SWEEP)
    assert cli.run(["launch", "sweep.toml", "--quiet"]) == 0
    yield folder
    patch.undo()


def asked(arguments, capsys):
    capsys.readouterr()
    assert cli.run([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_trial_is_judged_by_the_metric_of_its_sweep(study, capsys):
    shown = asked(["show", "0"], capsys)
    assert shown["metric"] == "macro_f1"
    for column, split in (("accuracy", "test"), ("val_accuracy", "val")):
        card = shown["scores"][split]
        assert shown[column] == card["macro_f1"] == pytest.approx(np.mean([row["f1"] for row in card["classes"]]))
        counts = np.array(card["confusion"])
        assert card["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
        assert [row["samples"] for row in card["classes"]] == counts.sum(1).tolist()
        assert [row["name"] for row in card["classes"]] == ["often", "rare"]
    assert shown["scores"]["test"]["accuracy"] != shown["accuracy"]


def test_the_metric_is_a_column_that_filters(study, capsys):
    assert asked(["query", "--where", "metric = 'macro_f1'", "--columns", "number,metric"], capsys) == [
        {"number": 0, "metric": "macro_f1"}
    ]
    assert asked(["query", "--where", "metric = 'accuracy'"], capsys) == []


def test_every_label_says_macro_f1(study, capsys):
    capsys.readouterr()
    assert cli.run(["show", "0"]) == 0
    text = capsys.readouterr().out
    assert "class in test" in text
    assert all(f"  {name} " in text for name in ("often", "rare"))
    assert asked(["best", "--flash", "40KB"], capsys)["reason"].startswith("validation macro-F1 ")
    assert cli.run(["export", "0", "--output", "out"]) == 0
    assert "is the int8 macro-F1 on test data" in (study / "out" / "MODEL_CARD.md").read_text()
    assert cli.run(["report", "--output", "page"]) == 0
    page = (study / "page" / "index.html").read_text()
    assert "Test macro-F1" in page
    assert "validation accuracy" not in page
    assert "Wilson" not in page
    assert json.loads((study / "page" / "fronts.json").read_text())["metric"] == "macro_f1"


def test_an_unknown_metric_is_refused_in_one_line(study, capsys):
    capsys.readouterr()
    assert cli.run(["launch", "sweep.toml", "--set", "training.metric='auc'"]) == 2
    error = capsys.readouterr().err.strip()
    assert "training.metric" in error
    assert "accuracy" in error
    assert "macro_f1" in error
    assert len(error.splitlines()) == 1
    assert cli.run(["launch", "sweep.toml", "--set", "training.class_weights=2"]) == 2


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("classification", {"training": {"loss": "own:loss", "class_weights": 0.5}}, "training.class_weights: has no"),
        ("classification", {"training": {"loss": "own:loss"}, "smoothing": 0.1}, "in your own training.loss"),
        ("regression", {"smoothing": {"low": 0.0, "high": 0.1}}, "in the loss of a task of the kind 'regression'"),
        ("regression", {"hyperparameters": {"distillation_temperature": 2.0}}, "is of logits of classes"),
        ("regression", {"smoothing": 0.0}, None),
    ],
)
def test_what_would_have_no_part_in_the_loss_is_refused(kind, changed, message, tmp_path):
    (tmp_path / "own.py").write_text("def loss(outputs, targets):\n    return outputs.sum()\n")
    more = {"label_smoothing": changed["smoothing"]} if "smoothing" in changed else {}
    sweep = SweepConfig.model_validate(
        {
            "sweep": {"name": "s"}, "task": {"name": "mine:task"}, "network": {"name": "tiny-cnn"},
            "budgets": {"list": [{"flash": 9_000}]},
            "training": changed.get("training", {})
            | {"base": str(tmp_path), "metric": "mae" if kind == "regression" else "accuracy"},
            "hyperparameters": more | changed.get("hyperparameters", {}),
        }
    )  # fmt: skip
    with nullcontext() if message is None else pytest.raises(InputError, match=message):
        check_objective(sweep, small_task(kind))


def small_task(kind):
    x = np.random.default_rng(0).normal(size=(60, 1, 4, 4)).astype(np.float32)
    return from_arrays({"x": x, "y": np.arange(60) % 2, "kind": np.array(kind)}, "mine")


@pytest.mark.parametrize(
    ("key", "body", "message"),
    [
        ("loss", "(a - b).square()", r"returned a tensor \(\d+, 1\); must be a tensor of one value"),
        ("loss", "(a.detach() - b).square().mean()", "has no gradient by the outputs"),
        ("loss", "float(a.detach().sum())", "returned a float; must be"),
        ("loss", "a.nothing()", r"raised AttributeError: .* \(.*own\.py, line 2\)"),
        ("loss", "(a - b).abs().mean()", None),
        ("score", "a - b", "training.score: returned ndarray, must be a number"),
        ("score", "float('nan')", "training.score: returned nan, must be finite"),
        ("score", "{}['r']", "raised KeyError: 'r'"),
        ("score", "-abs(a - b).mean()", None),
    ],
)
def test_a_loss_or_a_score_of_ones_own_is_called_before_the_sweep_begins(key, body, message, tmp_path):
    (tmp_path / "own.py").write_text(f"def mine(a, b):\n    return {body}\n")
    sweep = SweepConfig.model_validate(
        {
            "sweep": {"name": "s"}, "task": {"name": "mine:task"}, "network": {"name": "tiny-cnn"},
            "budgets": {"list": [{"flash": 9_000}]},
            "training": {"base": str(tmp_path), "metric": "r2", key: "own:mine"},
        }
    )  # fmt: skip
    with nullcontext() if message is None else pytest.raises(InputError, match=message):
        check_objective(sweep, small_task("regression"))


def test_every_metric_has_a_score():
    assert set(SCORES) == set(Metric)


def test_trials_of_before_the_metric_keep_their_hash(make_spec):
    spec = make_spec()
    assert "metric" not in spec.canonical()
    assert "class_weights" not in spec.canonical()
    other = spec.model_copy(update={"training": TrainingChoice(epochs=2, metric="macro_f1")})
    assert other.hash() != spec.hash()
    assert TrialSpec.model_validate_json(other.canonical()) == other


def test_a_trial_without_a_metric_or_scores_has_top_one_accuracy(store, study_of_two, result):
    details = load_trial(store, "first#0")
    assert details.row["metric"] == "accuracy"
    assert {row["metric"] for row in run_query(store, Query(("first",))).rows} == {"accuracy"}


@pytest.fixture
def study_of_two(store: Store, make_spec, result):
    for name, metric in (("first", "accuracy"), ("second", "macro_f1")):
        study = store.create_study(Study(0, name, {"a": 1}, None, {}, 1, {"python": "3"}, {"cpus": 2}, ""))
        training = TrainingChoice(epochs=2, metric=metric)
        spec = make_spec().model_copy(update={"training": training})
        store.finish_attempt(store.begin_attempt(store.add_trial(study, 0, spec)), result)
    return store


def test_models_of_two_metrics_are_not_ranked_together(study_of_two):
    with pytest.raises(InputError, match="measured by accuracy and macro_f1: name studies of one metric"):
        find_best(study_of_two, Budget(flash=70_000), studies=("*",))
    assert find_best(study_of_two, Budget(flash=70_000), studies=("second",)).reason.startswith("validation macro-F1")


@pytest.fixture
def errors(store: Store, make_spec, result) -> Store:
    """A study judged by an error, of two trials, beside one judged by accuracy."""
    for name, metric, values in (("errors", "mae", (-49.63, -39.06)), ("first", "accuracy", (0.7, 0.8))):
        study = store.create_study(Study(0, name, {"training": {"metric": metric}}, None, {}, 2, {}, {}, ""))
        for number, value in enumerate(values):
            training = TrainingChoice(epochs=2, metric=metric)
            spec = make_spec(seed=number).model_copy(update={"training": training})
            found = {"val_accuracy": value, "accuracy": value + 0.01, "float_accuracy": value}
            trial = store.add_trial(study, number, spec)
            store.finish_attempt(store.begin_attempt(trial), result.model_copy(update=found))
    return store


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("query --study errors", ("49.63", "39.06")),
        ("query --study errors --columns number,accuracy", ("49.62", "39.05")),
        ("query --study errors --group method", ("44.34", "39.05", "39.06")),
        ("query --study errors,first --group method", ("mae", "39.06", "accuracy", "80.0 %")),
        ("best --study errors --flash 70000", ("39.06", "10.57 behind")),
        ("compare errors#0 errors#1", ("49.63", "39.06", "-10.57", "second")),
        ("compare errors#0 first#1", ("49.63", "80.0 %")),
        ("diff errors errors", ("39.05", "+0")),
        ("diff errors first", ("39.05", "81.0 %")),
        ("show errors#0", ("49.63", "49.62")),
    ],
)
def test_every_table_shows_an_error_in_its_own_unit(errors, storage, words, wanted, capsys):
    assert cli.run([*words.split(), "--storage", storage]) == 0
    text = "".join(capsys.readouterr())
    for value in wanted:
        assert value in text
    for wrong in ("-49", "-39", "49.6 %", "39.1 %", "4963", "3906", "3905", "1057"):
        assert wrong not in text
    if "first" in words and words.startswith(("compare", "diff")):
        assert "points" not in text


def test_the_model_card_shows_an_error_in_its_own_unit(errors):
    assert "| accuracy | 49.62 |" in model_card(load_trial(errors, "errors#0"), b"", "")


def test_the_model_card_says_how_outputs_become_values():
    facts = {"kind": "regression", "classes": ["a|b", "c"], "values": {"mean": [154.0709, 2e-9], "std": [77.94, 1e-9]}}
    assert r"a\|b = 154.071 + 77.94 * output; c = 2e-09 + 1e-09 * output" in reading(facts)
    labels = {"kind": "multi-label", "classes": ["a", "b"], "spec": {"training": {}}}
    assert "one above 0" in reading(labels)
    assert "above" not in reading(labels | {"spec": {"training": {"loss": "own:loss"}}})
    assert reading({"classes": ["a", "b"]}) == ""


def test_a_front_of_scores_of_two_metrics_is_refused(errors, storage, capsys):
    assert cli.run(["query", "--study", "errors,first", "--front", "flash,accuracy", "--storage", storage]) == 2
    assert "measured by accuracy and mae: name studies of one metric" in capsys.readouterr().err
