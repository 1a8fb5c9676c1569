"""Every list of a trial's columns is the catalogue's, and SQL stands in one room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mcu.budget import RESOURCES
from orchestrator.cli import asking
from orchestrator.queries import query, study_diff, study_status
from orchestrator.queries.trial import compare_trials, load_trial
from orchestrator.samplers.observation import DIRECTIONS, OBJECTIVES
from orchestrator.spec import EpochReport, TrialResult
from orchestrator.storage.columns import COLUMNS, NESTED, trial_columns
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.records import asked_row
from orchestrator.storage.schema import EPOCH_REPORTS, TRIALS
from orchestrator.storage.store import Store, Study
from reports.columns import CATALOGUE, GROUP_CATALOGUE, Better, ColumnKind, Part, Shown, names
from reports.trials import NESTED as READ_NESTED
from reports.trials import NUMBERS, TEXTS, TIMES, tidy

ROOT = Path(__file__).parents[3]
ALL = tuple(column.name for column in CATALOGUE)


@pytest.fixture
def store(storage, make_spec, result) -> Store:
    store = Store(storage, writing=True)
    study = store.create_study(Study(0, "s", {}, None, {}, 2, {}, {}, ""))
    for number in range(2):
        store.add_trial(study, number, make_spec(seed=number))
        store.finish_attempt(store.begin_attempt(number + 1), result)
    return store


def test_a_name_stands_once_with_a_meaning_in_one_line():
    for catalogue in (CATALOGUE, GROUP_CATALOGUE):
        found = [column.name for column in catalogue]
        assert len(set(found)) == len(found)
        assert all(column.meaning and "\n" not in column.meaning for column in catalogue)


def test_the_table_of_trials_holds_the_columns_of_the_catalogue_and_its_own_keys():
    stored = {column.name.removesuffix("_json") for column in TRIALS.c}
    looked_up = set(names(parts=(Part.LOOKED_UP,)))
    assert stored - {"id", "study_id", "spec", "hyperparameters"} == set(ALL) - looked_up - {"trajectory"}
    assert tuple(trial_columns("sqlite")) != ()
    assert set(trial_columns("sqlite")) == set(COLUMNS)


def test_a_worker_answers_the_result_columns():
    every = tuple(ColumnKind)
    answered = {"state", "reason", "dense", *names(kinds=every, parts=(Part.RESULT,))}
    assert set(TrialResult.model_fields) == answered
    assert {f"dense_{name}" for name in RESOURCES} == set(names(parts=(Part.DENSE,)))


def test_a_specification_fills_the_columns_that_were_asked_for(make_spec):
    assert set(asked_row(make_spec())) == {*names(parts=(Part.ASKED,)), "spec_hash"}


def test_a_report_of_an_epoch_is_a_row():
    assert set(EpochReport.model_fields) == {c.name for c in EPOCH_REPORTS.c} - {"id", "attempt_id", "reported_at"}


def test_frames_and_reports_have_the_columns_of_the_catalogue(store):
    frame = trials_frame(store)
    assert set(frame.columns) == set(ALL)
    assert {"number", "seed", "attempts", "feasible", "measured", *NUMBERS, *TEXTS, *TIMES, *READ_NESTED} == set(ALL)
    assert set(ALL) <= set(tidy(frame).columns)


def test_one_trial_in_full_has_them_as_well(store):
    details = load_trial(store, "0").as_dict()
    assert set(ALL) <= set(details)
    compared = [row["field"] for row in compare_trials(load_trial(store, "0"), load_trial(store, "1"))]
    assert [name for name in names(shown=Shown.COMPARED) if details[name] is not None] == compared[:-1]
    assert compared[-1] == "seed"


def test_the_objectives_have_the_directions_of_the_catalogue():
    better = {column.name: column.better for column in CATALOGUE}
    assert [better[name] is Better.HIGH for name in OBJECTIVES] == [each == "maximize" for each in DIRECTIONS]


def test_lists_that_choose_among_the_columns_name_no_other():
    chosen = {*asking._WINNERS, *study_status._READ, *study_diff.RESULTS, *query._BUDGET, *query.GROUPS}
    assert chosen - set(ALL) == {"budget"}  # the name of a budget, not a column
    assert set(query.SUMMARY) == {column.name for column in GROUP_CATALOGUE}


def test_nested_columns_are_stored_as_json():
    assert all(TRIALS.c[stored] is not None for stored in NESTED.values())


def test_only_storage_knows_sqlalchemy():
    guilty = []
    for room in ("mcu", "pruning", "search_spaces", "reports", "orchestrator", "benchmarks", "docs"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
            imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            if any(name.partition(".")[0] == "sqlalchemy" for name in imported):
                guilty.append(path.relative_to(ROOT))
    assert guilty
    assert {path.parent for path in guilty} == {Path("orchestrator/storage")}
