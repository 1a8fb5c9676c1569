from __future__ import annotations

from reports.lineage import charged, line_of, tree


def trial(number, ancestor=None, val=None):
    return {"number": number, "ancestor": ancestor, "val_accuracy": val}


TRIALS = [
    trial(0, None, 0.9), trial(1, 0, 0.88), trial(2), trial(3, 1, 0.8), trial(4, 0, None), trial(5, 1, 0.85),
    trial(6, 4, 0.5),
]  # fmt: skip


def test_ancestors_come_before_their_heirs_and_trials_of_no_line_are_left_out():
    steps = tree(TRIALS)
    assert [(step.branch, step.trial["number"]) for step in steps] == [
        ("", 0), ("├ ", 1), ("│ ├ ", 3), ("│ └ ", 5), ("└ ", 4), ("  └ ", 6),
    ]  # fmt: skip
    changes = [step.change if step.change is None else round(step.change, 9) for step in steps]
    assert changes == [None, -0.02, -0.08, -0.03, None, None]


def test_the_line_of_a_trial_is_what_it_came_from_and_what_came_from_it():
    assert [step.trial["number"] for step in line_of(1, TRIALS)] == [0, 1, 3, 5]
    assert [step.trial["number"] for step in line_of(6, TRIALS)] == [0, 4, 6]
    assert line_of(2, TRIALS) == []


def test_the_time_of_a_root_is_shared_by_all_that_come_from_it_and_counts_once():
    trials = [dict(each, duration_s=float(10 + each["number"])) for each in TRIALS]
    seconds = charged(trials)
    assert seconds == {0: 0.0, 1: 13.0, 2: 12.0, 3: 15.0, 4: 16.0, 5: 17.0, 6: 18.0}
    assert sum(seconds.values()) == sum(each["duration_s"] for each in trials)
