"""Which trials a sweep plans: methods side by side, budgets in turn, seeds shared where the sweep says so."""

from fake_sweep import make_sweep

from orchestrator.planning.plan import Plan


def seeds_by_budget(plan: Plan) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in plan.trials:
        found.setdefault(trial.budget.label, []).append(trial.seed)
    return found


def with_seeds(sweep, seeds):
    return sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"seeds": seeds})})


def test_methods_share_the_seed_of_each_of_their_trials():
    plan = Plan(make_sweep(trials=4, methods=("fake", "other")))
    by_method = {name: [t.seed for t in plan.trials if t.method == name] for name in ("fake", "other")}
    assert by_method["fake"] == by_method["other"]
    assert len(set(by_method["fake"])) == 4


def test_with_seeds_every_budget_gets_the_same_ones_and_later_rounds_begin_again():
    first, second = seeds_by_budget(Plan(with_seeds(make_sweep(trials=8), 2))).values()
    assert first == second
    assert first[:2] == first[2:]
    assert len(set(first)) == 2


def test_a_sweep_without_seeds_is_written_as_it_always_was():
    assert "seeds" not in make_sweep().canonical()
    assert '"seeds":3' in with_seeds(make_sweep(), 3).canonical()
