"""Comparisons across tasks and budgets: places, ties, ranks, hypervolumes, and the page they end on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mcu.errors import InputError
from reports.comparison.ranking import critical_difference, ranking, share_first_or_tied, tallies
from reports.comparison.seed_scores import seed_scores
from reports.comparison.standings import Place, standings
from reports.comparison.volumes import frames, largest, volumes
from reports.comparison_page.page import Kept, compare, write_comparison
from reports.trials import tidy
from sample_trials import sample_trials

BUDGET = {"budget_flash": 20_000, "budget_sram": 9_000}


def trial(method: str, seed: int, accuracy: float | None, **more: object) -> dict:
    met = accuracy is not None
    row = {"method": method, "seed": seed, "accuracy": accuracy, "val_accuracy": accuracy, "duration_s": 60.0, **BUDGET}
    row |= {"flash": 15_000.0, "sram": 8_000, "macs": 10**6, "feasible": met, "violation": 0.0 if met else 1.0}
    return row | {"state": "complete" if met else "infeasible"} | more


def scores_of(rows: list[dict]) -> pd.DataFrame:
    numbered = [{"number": at} | row for at, row in enumerate(rows)]
    return seed_scores({"t": tidy(pd.DataFrame(numbered))})


def standing_of(rows: list[dict]) -> dict:
    return {s.method: s for s in standings(scores_of(rows))}


def test_validation_chooses_among_the_trials_of_a_seed_and_all_their_time_counts():
    rows = [trial("l1", 0, 0.95, val_accuracy=0.80), trial("l1", 0, 0.90, val_accuracy=0.85)]
    (row,) = scores_of(rows).to_dict("records")
    assert (row["accuracy"], row["trials"], row["duration_s"]) == (0.90, 2, 120.0)


def test_a_result_that_was_taken_over_took_no_time():
    rows = [trial("l1", 0, 0.9, reused_from=None), trial("l1", 0, 0.9, reused_from="s#0")]
    (row,) = scores_of(rows).to_dict("records")
    assert (row["trials"], row["duration_s"]) == (2, 60.0)


def test_crashes_are_left_out_and_misses_stay():
    rows = [trial("l1", 0, None), trial("l1", 1, None, state="failed"), trial("l1", 2, 0.9, state="running")]
    scores = scores_of(rows)
    assert scores["seed"].tolist() == [0]
    assert scores["accuracy"].isna().all()


def test_a_method_is_tied_unless_it_is_behind_with_every_seed():
    rows = [trial("differentiable", seed, value) for seed, value in enumerate((0.92, 0.93, 0.94))]
    rows += [trial("uniform", seed, value) for seed, value in enumerate((0.93, 0.92, 0.92))]
    rows += [trial("l1", seed, value) for seed, value in enumerate((0.90, 0.91, 0.93))]
    rows += [trial("fpgm", seed, value) for seed, value in enumerate((0.9299, 0.9295, 0.93))]
    found = standing_of(rows)
    places = {name: standing.place for name, standing in found.items()}
    assert places == {"differentiable": Place.FIRST, "uniform": Place.TIED, "l1": Place.BEHIND, "fpgm": Place.TIED}
    assert found["l1"].behind == pytest.approx(0.05 / 3)
    assert found["l1"].behind_interval[0] >= 0.01 - 1e-9
    assert found["uniform"].gain == pytest.approx(-0.02 / 3)


def test_a_method_that_missed_with_one_seed_is_never_first():
    rows = [trial("differentiable", seed, 0.90) for seed in range(3)]
    rows += [trial("l1", 0, 0.99), trial("l1", 1, 0.99), trial("l1", 2, None)]
    rows += [trial("dense-ptq", seed, None) for seed in range(3)]
    found = standing_of(rows)
    assert [found[name].place for name in ("differentiable", "l1", "dense-ptq")] == ["first", "behind", "missed"]
    assert (found["l1"].met, found["l1"].tried) == (2, 3)
    assert found["dense-ptq"].rank == 3


def test_duels_over_cells_count_misses_for_the_other_side():
    rows = [trial("differentiable", seed, 0.9 + seed / 100) for seed in range(3)]
    rows += [trial("l1", seed, 0.8 + seed / 100) for seed in range(3)] + [trial("low-rank", s, None) for s in range(3)]
    found = standings(scores_of(rows))
    assert {t.method: (t.won, t.even, t.lost) for t in tallies(found)} == {"l1": (1, 0, 0), "low-rank": (1, 0, 0)}
    other_way = tallies(standings(scores_of(rows), "l1"), "l1")
    assert {t.method: (t.won, t.even, t.lost) for t in other_way}["differentiable"] == (0, 0, 1)
    assert share_first_or_tied(found, "differentiable") == 1.0
    assert share_first_or_tied(found, "nobody") is None


@pytest.mark.parametrize(("methods", "cells", "expected"), [(4, 14, 1.25), (5, 30, 1.11), (10, 10, 4.28)])
def test_critical_differences_are_those_of_demsar(methods, cells, expected):
    # q of Demsar's table 5(a): 2.569, 2.728, 3.164
    assert critical_difference(methods, cells) == pytest.approx(expected, abs=0.01)


def test_ranks_leave_out_methods_that_did_not_run_everywhere():
    rows = [trial(m, s, 0.8 + i / 50 + s / 500) for i, m in enumerate(("a", "b", "c")) for s in range(3)]
    other = {"budget_flash": 40_000}
    rows += [trial(m, s, 0.9 + i / 50 + s / 500, **other) for i, m in enumerate(("a", "b")) for s in range(3)]
    found = ranking(standings(scores_of(rows), reference="a"))
    assert found.ranks == {"b": 1.0, "a": 2.0}
    assert found.cells == 2
    assert found.p_value is None


def test_hypervolume_is_above_the_stated_floor_and_prefers_what_dominates():
    rows = [trial("differentiable", s, 0.9, flash=10_000.0) for s in range(3)]
    rows += [trial("l1", s, 0.8, flash=12_000.0, sram=9_000.0) for s in range(3)]
    scores = scores_of(rows)
    assert frames(scores)["t"].floor == pytest.approx(0.8)
    found = {v.method: v for v in volumes(scores)}
    assert found["l1"].mean == 0
    assert found["differentiable"].mean == pytest.approx(0.5 * (1 - 0.0), rel=0.01)
    assert found["l1"].gain_interval[1] < 0
    assert found["l1"].from_zero > 0
    assert largest(list(found.values()), "t") == "differentiable"


def test_the_linear_hypervolume_is_bounded_by_the_unpruned_network():
    dense = {"dense_flash": 30_000, "dense_sram": 16_000, "dense_macs": 4 * 10**6}
    rows = [trial(m, s, a, **dense) for m, a in (("differentiable", 0.9), ("l1", 0.8)) for s in range(3)]
    found = {v.method: v for v in volumes(scores_of(rows))}
    assert found["differentiable"].linear == pytest.approx((1 / 2) * (1 / 2) * (3 / 4) * (0.1 / 0.2))
    assert found["l1"].linear == 0
    unknown = volumes(scores_of([trial("l1", 0, 0.8)]))
    assert np.isnan(unknown[0].linear)


def test_the_page_holds_every_table_and_figure_and_names_what_was_charged(tmp_path):
    methods = ("differentiable", "uniform", "dense-ptq")
    table = sample_trials(6 * len(methods) * 3, methods=methods).assign(task="a")
    table["reason"] = table["reason"].astype(object)
    charged = table.index[table["method"] == "uniform"][0]
    told = {"state": "infeasible", "feasible": False, "reason": "zeros <stay> zeros"}
    table.loc[charged, list(told)] = list(told.values())
    page = write_comparison({"a": table}, tmp_path, heading="# Looked at")
    text = page.read_text()
    assert text.startswith("# Looked at")
    assert "zeros <stay> zeros" in text
    for name in ("cells.png", "ranks.svg", "fronts_a.png", "attainment_flash_a.png", "attainment_sram_a.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000
        assert name.endswith("svg") or f"figures/{name}" in text
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {
        "ranks",
        "cells_a",
        "gains",
        "hypervolume",
        "cost",
    }
    again = compare({"a": table})
    assert np.allclose([v.mean for v in again.volumes], [v.mean for v in compare({"a": table}).volumes])


def test_methods_that_are_not_run_again_keep_their_scores_and_their_charges(tmp_path):
    table = sample_trials(54, methods=("differentiable", "uniform", "dense-ptq")).assign(task="a")
    table["reason"] = table["reason"].astype(object)
    zeros = table.index[table["method"] == "uniform"][0]
    told = {"state": "infeasible", "feasible": False, "reason": "zeros stay zeros"}
    table.loc[zeros, list(told)] = list(told.values())
    write_comparison({"a": table}, tmp_path)
    kept = Kept.read(tmp_path)
    ours = table[table["method"] == "differentiable"]
    same = compare({"a": ours}, kept=kept)
    pd.testing.assert_frame_equal(same.scores, compare({"a": table}).scores, check_dtype=False)
    assert sorted(same.charged["a"]) == sorted(compare({"a": table}).charged["a"])
    other = compare({"b": ours.assign(task="b")}, kept=kept)  # a task that is not run again
    assert other.tasks == ("a", "b")
    assert other.charged["a"] == same.charged["a"]
    assert set(other.scores.loc[other.scores["task"] == "a", "method"]) == set(table["method"])
    better = compare({"a": ours.assign(accuracy=1.0)}, kept=kept).scores
    assert set(better.loc[better["method"] == "differentiable", "accuracy"].dropna()) == {1.0}
    assert not (better.loc[better["method"] != "differentiable", "accuracy"] == 1.0).any()
    with pytest.raises(InputError, match=r"sample\.csv"):
        Kept.read(tmp_path / "figures")


def test_nothing_finished_is_said_in_one_line():
    with pytest.raises(InputError, match="no trial has finished"):
        compare({"a": pd.DataFrame([trial("l1", 0, 0.9, state="running", number=0)])})
