from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.budget import Budget
from orchestrator.running.stop_rule import AsyncRungs, NeverStop, RungSchedule, score, stratum
from orchestrator.spec import EpochReport, TrialResult

NO_AUDIT = RungSchedule(audit_share=0.0)


def report(share: float, accuracy: float, flash: int = 60_000, sram: int = 30_000) -> EpochReport:
    return EpochReport(step=0, epochs_done=2 * share, val_accuracy=accuracy, flash=flash, sram=sram)


def verdicts(rule, make_spec, accuracies, share=0.25, **more):
    return [rule.judge(k, make_spec(seed=k), report(share, a, **more)) for k, a in enumerate(accuracies)]


def test_nobody_is_judged_before_enough_peers(make_spec):
    assert verdicts(AsyncRungs(NO_AUDIT), make_spec, [0.9, 0.8, 0.7]) == [False, False, False]


def test_the_worst_of_enough_peers_stops_and_the_best_goes_on(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7])
    assert rule.judge(3, make_spec(seed=3), report(0.25, 0.1))
    assert not rule.judge(4, make_spec(seed=4), report(0.25, 0.95))


def test_a_larger_eta_stops_more(make_spec):
    accuracies = [0.9, 0.5, 0.8, 0.7, 0.6, 0.75, 0.85, 0.65, 0.55, 0.95, 0.74, 0.3]
    stops = [sum(verdicts(AsyncRungs(RungSchedule(eta=eta, audit_share=0)), make_spec, accuracies)) for eta in (2, 4)]
    assert 0 < stops[0] < stops[1]


def test_a_trial_is_judged_once_at_each_level(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7, 0.95])
    assert not rule.judge(3, make_spec(seed=3), report(0.3, 0.0))


@pytest.mark.parametrize("changed", [{"flash": 30_000}, {"method": "l1"}])
def test_other_budgets_and_methods_are_no_peers(make_spec, changed):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7, 0.9])
    assert not rule.judge(9, make_spec(seed=9, **changed), report(0.25, 0.1))


def test_networks_compete_only_in_a_race(make_spec):
    def lost(race: bool) -> bool:
        rule = AsyncRungs(RungSchedule(audit_share=0.0, race=race))
        verdicts(rule, make_spec, [0.9, 0.8, 0.7, 0.9])
        other = make_spec(seed=9)
        network = other.network.model_copy(update={"name": "other"})
        training = other.training.model_copy(update={"epochs": 2 * other.training.epochs})
        return rule.judge(9, other.model_copy(update={"network": network, "training": training}), report(0.5, 0.1))

    assert lost(race=True)
    assert not lost(race=False)


def test_a_trial_over_its_bounds_is_not_judged_before_the_deadline_and_loses_after_it(make_spec):
    over = 2 * 65_536
    early, late = AsyncRungs(NO_AUDIT), AsyncRungs(NO_AUDIT)
    verdicts(early, make_spec, [0.5, 0.5, 0.5], share=0.5)
    assert not early.judge(3, make_spec(seed=3), report(0.5, 0.1, flash=over))
    verdicts(late, make_spec, [0.5, 0.5, 0.5], share=0.8)
    assert late.judge(3, make_spec(seed=3), report(0.8, 0.9, flash=over))


def test_a_trial_on_its_way_to_the_budget_is_no_peer(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9] * 8, flash=2 * 65_536)
    assert not rule.judge(8, make_spec(seed=8), report(0.25, 0.1))


def test_it_is_judged_at_the_level_where_it_first_keeps_its_bounds(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7], share=0.4)
    assert not rule.judge(3, make_spec(seed=3), report(0.25, 0.9, flash=2 * 65_536))
    assert rule.judge(3, make_spec(seed=3), report(0.4, 0.2))


def test_budgets_of_a_range_are_compared_with_slightly_smaller_ones(make_spec):
    schedule = RungSchedule(audit_share=0.0, reach=2.0)

    def stopped(peers: int, own: int) -> bool:
        rule = AsyncRungs(schedule)
        for number, accuracy in enumerate((0.9, 0.8, 0.7)):
            rule.judge(number, make_spec(seed=number, flash=peers), report(0.25, accuracy, flash=1_000))
        return rule.judge(3, make_spec(seed=3, flash=own), report(0.25, 0.1, flash=1_000))

    assert stopped(40_000, 60_000)
    assert not stopped(60_000, 40_000)  # peers with more room are no measure
    assert not stopped(20_000, 60_000)


def test_less_violation_is_better_whatever_the_accuracy(make_spec):
    spec = make_spec()
    small, large = report(1, 0.1, flash=66_000), report(1, 0.9, flash=90_000)
    assert score(spec, small).before(score(spec, large))


def test_violation_is_relative_not_in_bytes(make_spec):
    spec = make_spec(flash=1_000_000)
    flash_over = score(spec, report(1, 0.5, flash=1_100_000))
    sram_over = score(spec, report(1, 0.5, sram=2 * 32_768))
    assert flash_over.violation == pytest.approx(0.1)
    assert flash_over.before(sram_over)


def test_the_audit_spares_a_fixed_share_and_counts_wrong_stops(make_spec):
    rule = AsyncRungs(RungSchedule(audit_share=0.2), seed=1)
    spared = [number for number in range(1000) if rule.spared(number)]
    assert 140 < len(spared) < 260
    assert spared == [number for number in range(1000) if AsyncRungs(rule.schedule, seed=1).spared(number)]
    saved = next(number for number in spared if number > 10)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7])
    spec = make_spec(seed=saved)
    assert not rule.judge(saved, spec, report(0.25, 0.1))
    for number, accuracy in ((0, 0.92), (saved, 0.95)):
        rule.ended(number, spec, TrialResult(state="complete", val_accuracy=accuracy, violation=0.0))
    assert (rule.audit().spared, rule.audit().false_stops, rule.audit().rate) == (1, 1, 1.0)
    rule.ended(1, spec, TrialResult(state="complete", val_accuracy=0.99, violation=0.0))
    assert rule.audit().rate == 0.0


def test_without_figures_nothing_is_judged(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    for number in range(9):
        assert not rule.judge(number, make_spec(seed=number), EpochReport(step=0, epochs_done=1.0))
    assert AsyncRungs().audit().rate is None


def test_never_stop_never_stops(make_spec):
    assert not any(verdicts(NeverStop(), make_spec, [0.9] * 10 + [0.0] * 10))


@given(st.lists(st.floats(0, 1), min_size=8, max_size=40))
def test_the_best_so_far_is_never_stopped(accuracies):
    rule = AsyncRungs(NO_AUDIT)
    spec = _SPEC
    best = -1.0
    for number, accuracy in enumerate(accuracies):
        stopped = rule.judge(number, spec, report(0.25, accuracy))
        assert not (stopped and accuracy > best)
        best = max(best, accuracy)


@pytest.fixture(autouse=True)
def _spec_for_hypothesis(make_spec):
    global _SPEC
    _SPEC = make_spec()


def test_stratum_ignores_seed_and_hyperparameters(make_spec):
    assert stratum(make_spec(seed=1, learning_rate=0.1)) == stratum(make_spec(seed=2))
    assert stratum(make_spec(method="l1")) != stratum(make_spec())


def test_on_the_way_to_the_budget_the_worst_part_ends_and_the_middle_goes_on(make_spec):
    over = 2 * 65_536
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9, 0.8, 0.7, 0.85, 0.75, 0.65], share=0.2, flash=over)
    assert not rule.judge(6, make_spec(seed=6), report(0.2, 0.72, flash=over))
    assert rule.judge(7, make_spec(seed=7), report(0.2, 0.1, flash=over))


def test_on_the_way_to_the_budget_accuracy_counts_and_violation_does_not(make_spec):
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.5, 0.6, 0.7, 0.55, 0.65], share=0.2, flash=70_000)
    assert not rule.judge(5, make_spec(seed=5), report(0.2, 0.9, flash=900_000))
    assert rule.judge(6, make_spec(seed=6), report(0.2, 0.1, flash=66_000))


def test_before_the_early_level_nobody_on_the_way_is_judged_and_after_it_nobody_again(make_spec):
    over = 2 * 65_536
    rule = AsyncRungs(NO_AUDIT)
    verdicts(rule, make_spec, [0.9] * 6, share=0.1, flash=over)
    assert not rule.judge(6, make_spec(seed=6), report(0.1, 0.1, flash=over))
    verdicts(rule, make_spec, [0.9] * 6, share=0.2, flash=over)
    assert not rule.judge(5, make_spec(seed=5), report(0.3, 0.1, flash=over))


def test_the_dense_network_of_a_lineage_is_never_judged(make_spec):
    rule = AsyncRungs(RungSchedule(audit_share=0.0))
    dense = make_spec().model_copy(update={"budget": Budget()})
    assert not any(rule.judge(number, dense, report(0.5, 0.9 - 0.05 * number)) for number in range(9))


@pytest.mark.parametrize(("metric", "times"), [("mae", -1.0), ("mae", -1e-5), ("own:decibels", 40.0)])
def test_scores_of_any_unit_are_ranked_by_themselves_and_never_by_use(make_spec, metric, times):
    training = {"score": metric} if ":" in metric else {"metric": metric}
    spec = make_spec()
    spec = spec.model_copy(update={"training": spec.training.model_copy(update=training)})
    good, bad = (1.0, 2.0) if times < 0 else (2.0, 1.0)
    full, nearly_empty = report(1, times * good, flash=60_000), report(1, times * bad, flash=100)
    assert score(spec, full).before(score(spec, nearly_empty))
    assert score(spec, full).before(score(spec, report(1, float("nan"))))
