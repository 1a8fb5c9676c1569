"""Queries over a stored study: rows, order, fronts, groups, formats, and the best trial of a device."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.queries.best import budget_for, find_best
from orchestrator.queries.query import Query, list_studies, run_query
from orchestrator.queries.trial import compare_trials, details_text, load_trial
from orchestrator.storage.columns import COLUMNS
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from orchestrator.tables import Format, encode_rows, find_format, write_rows
from reports.trials import tidy
from reports.winners import best_first
from sample_trials import sample_trials

ROOT = Path(__file__).parents[3]
HOSTILE = "<script>alert(1)</script>'; drop table mcusweep_trials; --\x1b[31m"


def load_benchmark(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "sweeps" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    storage = f"sqlite:///{tmp_path_factory.mktemp('query')}/trials.db"
    store = Store(storage, writing=True)
    write_study = load_benchmark("make_trials").write_study
    write_study(store, sample_trials(30, seed=1, study="older"), "older")
    frame = sample_trials(300, study="sample")
    frame.loc[7, "reason"] = HOSTILE
    write_study(store, frame, "sample")
    store.close()
    return storage


@pytest.fixture(scope="module")
def store(database):
    store = Store(database)
    yield store
    store.close()


@pytest.fixture(scope="module")
def frame(store):
    return trials_frame(store, store.study("sample"))


def test_filter_sort_and_limit(store):
    answer = run_query(
        store, Query(where="method = 'differentiable' and sram <= 48KB", sort=("-val_accuracy",), limit=3)
    )
    values = [row["val_accuracy"] for row in answer.rows]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert all(row["method"] == "differentiable" and row["sram"] <= 48 * 1024 for row in answer.rows)
    assert answer.columns[: len(COLUMNS)] == COLUMNS
    assert {"param.learning_rate", "param.weight_decay"} <= set(answer.columns)


def test_missing_values_come_last_in_both_directions(store):
    for sign in ("", "-"):
        column = [row["accuracy"] for row in run_query(store, Query(sort=(f"{sign}accuracy",))).rows]
        gap = column.index(None)
        assert gap > 200
        assert column[gap:] == [None] * (len(column) - gap)


def test_latest_study_by_default_named_ones_or_all(store):
    assert len(run_query(store, Query()).rows) == 300
    assert len(run_query(store, Query(studies=("older",))).rows) == 30
    both = run_query(store, Query(studies=("older", "sample"), where="number = 3"))
    assert [row["study"] for row in both.rows] == ["older", "sample"]
    assert len(run_query(store, Query(studies=("*",))).rows) == 330
    with pytest.raises(InputError, match=r"'nope'.*'older', 'sample'"):
        run_query(store, Query(studies=("nope",)))


def test_parameters_filter_sort_and_select(store, frame):
    answer = run_query(
        store,
        Query(
            where="param.learning_rate > 0.1", columns=("number", "param.learning_rate"), sort=("param.learning_rate",)
        ),
    )
    expected = frame[frame["param.learning_rate"] > 0.1].sort_values("param.learning_rate")
    assert [row["number"] for row in answer.rows] == expected["number"].tolist()
    assert answer.columns == ("number", "param.learning_rate")
    with pytest.raises(InputError, match=r"did you mean 'param\.learning_rate'"):
        run_query(store, Query(where="param.learning_rat > 1"))


def test_front_keeps_the_rows_no_other_dominates(store):
    rows = run_query(store, Query(where="feasible")).rows
    expected = {
        row["number"]
        for row in rows
        if not any(
            other["flash"] <= row["flash"]
            and other["accuracy"] >= row["accuracy"]
            and (other["flash"], other["accuracy"]) != (row["flash"], row["accuracy"])
            for other in rows
        )
    }
    for query in (
        Query(where="feasible and front(flash, accuracy)", sort=("flash",)),
        Query(where="feasible", front=("flash", "accuracy"), sort=("flash",)),
    ):
        answer = run_query(store, query).rows
        assert {row["number"] for row in answer} <= expected
        assert {(row["flash"], row["accuracy"]) for row in answer} == {
            (row["flash"], row["accuracy"]) for row in rows if row["number"] in expected
        }
        assert [row["flash"] for row in answer] == sorted(row["flash"] for row in answer)
        assert len(answer) > 2
    assert len(run_query(store, Query(where="front(flash, accuracy)", limit=1)).rows) == 1


def test_groups_sum_up(store, frame):
    answer = run_query(store, Query(group=("method",), sort=("-mean_accuracy",)))
    assert {row["method"] for row in answer.rows} == set(frame["method"])
    for row in answer.rows:
        mine = frame[frame["method"] == row["method"]]
        fit = mine[mine["feasible"].fillna(False) & mine["accuracy"].notna()]
        assert row["count"] == len(mine)
        assert row["feasible"] == len(fit)
        assert row["mean_accuracy"] == pytest.approx(fit["accuracy"].mean())
        assert row["best_val_accuracy"] == pytest.approx(fit["val_accuracy"].max())
    means = [row["mean_accuracy"] for row in answer.rows]
    assert means == sorted(means, reverse=True)
    by_budget = run_query(store, Query(group=("budget", "method")))
    assert sum(row["count"] for row in by_budget.rows) == 300
    assert {"device", "budget_flash", "best_number"} <= set(by_budget.columns)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(columns=("nope",)), "unknown column 'nope'"),
        (Query(sort=("-nope",)), "unknown column 'nope'"),
        (Query(limit=0), "--limit 0"),
        (Query(front=("flash",)), "at least two"),
        (Query(front=("flash", "method")), "holds text"),
        (Query(front=("flash", "sram"), where="front(flash, sram)"), "same thing"),
        (Query(group=("nope",)), "must be one of budget, method"),
        (Query(group=("method",), columns=("number",)), "cannot be combined with"),
        (Query(group=("method",), sort=("flash",)), "a grouped query has the columns"),
        (Query(sort=("number; drop table mcusweep_trials",)), "unknown column"),
        (Query(columns=("* from sqlite_master --",)), "unknown column"),
        (Query(studies=("x' or 1=1 --",)), "not in"),
    ],
)
def test_bad_queries_are_refused_in_one_line(store, query, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as raised:
        run_query(store, query)
    assert "\n" not in str(raised.value)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_argument_is_answered_or_refused(store, text):
    for query in (Query(where=text), Query(sort=(text,)), Query(columns=(text,)), Query(studies=(text,))):
        try:
            run_query(store, query)
        except InputError:
            continue
    assert len(run_query(store, Query()).rows) == 300


def test_json_schema_is_stable(store):
    answer = run_query(store, Query(where="number <= 7", columns=(*COLUMNS, "param.learning_rate", "widths")))
    rows = json.loads(encode_rows(answer.columns, answer.rows, Format.JSON))
    assert [row["number"] for row in rows] == list(range(8))
    first = rows[0]
    assert tuple(first) == answer.columns
    kinds = {name: type(first[name]) for name in ("accuracy", "flash", "feasible", "seed", "started_at", "widths")}
    assert kinds == {"accuracy": float, "flash": int, "feasible": bool, "seed": int, "started_at": str, "widths": dict}
    assert first["budget_macs"] is None
    lines = encode_rows(answer.columns, answer.rows, Format.JSONL).decode().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert json.loads(encode_rows(answer.columns, [], Format.JSON)) == []


def test_csv_keeps_hostile_texts_as_text_with_control_characters_written_out(store):
    answer = run_query(store, Query(where="number = 7", columns=("number", "reason", "budget_macs")))
    (row,) = csv.DictReader(io.StringIO(encode_rows(answer.columns, answer.rows, Format.CSV).decode()))
    assert row == {"number": "7", "reason": HOSTILE.replace("\x1b", "\\x1b"), "budget_macs": ""}


def test_tables_for_people_never_steer_the_terminal(store, capsys):
    answer = run_query(store, Query(where="number = 7", columns=("number", "reason")))
    write_rows(answer.columns, answer.rows, Format.TABLE)
    printed = capsys.readouterr().out
    assert "\x1b[31m" not in printed
    assert "\\x1b[31m" in printed
    assert b"\x1b" not in encode_rows(answer.columns, answer.rows, Format.MARKDOWN)
    assert "\x1b" not in details_text(load_trial(store, "7"))


def test_parquet_holds_the_same_values(store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    answer = run_query(store, Query())
    target = tmp_path / "trials.parquet"
    write_rows(answer.columns, answer.rows, Format.PARQUET, target)
    assert parquet.read_table(target).to_pylist() == answer.rows


def test_output_is_written_whole_or_not_at_all(store, tmp_path):
    answer = run_query(store, Query(limit=2))
    target = tmp_path / "rows.json"
    write_rows(answer.columns, answer.rows, Format.JSON, target)
    assert len(json.loads(target.read_text())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    with pytest.raises(InputError, match="does not exist"):
        write_rows(answer.columns, answer.rows, Format.JSON, tmp_path / "no" / "rows.json")
    with pytest.raises(InputError, match="is a folder"):
        write_rows(answer.columns, answer.rows, Format.JSON, tmp_path)
    with pytest.raises(InputError, match="must be one of table, vertical, csv"):
        find_format("xml")


def test_studies_are_listed_with_their_states(store):
    answer = list_studies(store)
    assert [row["study"] for row in answer.rows] == ["older", "sample"]
    assert answer.rows[1]["trials"] == 300
    assert sum(answer.rows[1]["states"].values()) == 300


@pytest.mark.parametrize("device", ["stm32l053r8", "nrf52832", "nrf52840"])
def test_best_agrees_with_the_report_on_the_winner(store, frame, device):
    budget = budget_for(device)
    best = find_best(store, budget)
    table = tidy(frame)
    order = best_first(table, budget.bounds())
    assert best.trial["number"] == table["number"].iloc[order[0]]
    assert [row["number"] for row in best.runners_up] == [table["number"].iloc[row] for row in order[1:4]]
    assert best.fitting == len(order)
    assert all(0 < share <= 1 for share in best.used.values())
    assert f"best of {best.fitting:,}" in best.reason


def test_best_may_come_from_another_budget_and_says_so(store):
    best = find_best(store, Budget(flash=10**9))
    assert f"it was run for {best.trial['device']}" in best.reason
    assert json.loads(json.dumps(best.as_dict()))["trial"]["number"] == best.trial["number"]


def test_best_without_a_fit_names_the_closest(store):
    with pytest.raises(InputError, match=r"no measured trial fits 100 B flash; the closest is trial \d+ \("):
        find_best(store, Budget(flash=100))
    with pytest.raises(InputError, match="device, or at least one of flash"):
        budget_for(flash=None)
    assert budget_for("nrf52840", sram=1000).sram == 1000


def test_details_hold_everything_stored(store):
    details = load_trial(store, "sample#0")
    as_dict = json.loads(json.dumps(details.as_dict()))
    assert as_dict["number"] == 0
    assert as_dict["trajectory"][0]["step"] == 0
    assert as_dict["attempt_list"][0]["reason"] == "complete"
    text = details_text(details)
    for part in ("Trial 0 of sample", "Channels kept, per layer", "Trajectory", "Attempts", "param.learning_rate"):
        assert part in text
    for reference, message in (("9999", "trials 0 to 299"), ("x", "must be a trial's number"), ("no#1", "'no'")):
        with pytest.raises(InputError, match=message):
            load_trial(store, reference)


def test_comparison_says_which_is_better(store):
    rows = {row["field"]: row for row in compare_trials(load_trial(store, "0"), load_trial(store, "30"))}
    accuracy = rows["accuracy"]
    assert accuracy["difference"] == pytest.approx(accuracy["second"] - accuracy["first"])
    assert accuracy["better"] == ("second" if accuracy["difference"] > 0 else "first")
    assert rows["seed"] == {"field": "seed", "first": 0, "second": 1, "difference": None, "better": ""}
    assert not {"method", "device"} & rows.keys()


def test_query_path_imports_nothing_heavy(database):
    code = (
        "import sys\n"
        "from orchestrator.queries.best import budget_for, find_best\n"
        "from orchestrator.queries.query import Query, run_query\n"
        "from orchestrator.tables import Format, write_rows\n"
        "from orchestrator.storage.store import Store\n"
        f"store = Store({database!r})\n"
        "rows = run_query(store, Query(where='feasible', limit=2))\n"
        "write_rows(rows.columns, rows.rows, Format.JSON)\n"
        "find_best(store, budget_for('nrf52840'))\n"
        "sys.exit(','.join({'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2


def test_three_lines_of_python_reach_the_trials(database, frame):
    from mcusweep import open_study

    study = open_study("sample", database)
    small = study.trials("feasible and sram <= 32KB")
    expected = frame[frame["feasible"].fillna(False) & (frame["sram"] <= 32 * 1024)]
    assert small["number"].tolist() == expected["number"].tolist()
    assert str(small["flash"].dtype) == "Int64"
    assert str(small["feasible"].dtype) == "boolean"
    assert len(study.trials()) == 300
    assert 0 < len(study.trials(front=("flash", "accuracy"))) < 50
    assert study.best("nrf52840").trial["number"] == study.best(flash="768KB", sram="208KB").trial["number"]
    with pytest.raises(InputError, match="'nope'"):
        open_study("nope", database)
