from __future__ import annotations

import pytest
from fake_sweep import make_sweep
from scripted import frame_of, scripted

from mcu.errors import InputError
from orchestrator.planning.extension import grown
from orchestrator.planning.plan import Plan
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.run import begin_study, stored_sweep
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig


def changed(old: SweepConfig, /, **sections) -> SweepConfig:
    dump = old.model_dump(mode="json")
    for section, values in sections.items():
        dump[section] = {**dump[section], **values}
    return SweepConfig.model_validate(dump)


def key(trial):
    return trial.number, trial.method, trial.index, trial.budget, trial.seed


def counts(plan: Plan) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for trial in plan.trials:
        found[trial.method, trial.budget.label] = found.get((trial.method, trial.budget.label), 0) + 1
    return found


THREE = [{"flash": 65536}, {"flash": 32768, "sram": 40000}, {"flash": 20480}]


@pytest.mark.parametrize(
    ("sections", "more"),
    [
        ({"sweep": {"trials": 7}}, 6),
        ({"budgets": {"list": THREE}, "sweep": {"trials": 6}}, 4),
        ({"methods": {"names": ["fake", "other", "l1"]}}, 4),
        ({"methods": {"trials": {"other": 6}}}, 2),
    ],
)
def test_what_is_added_comes_behind_and_the_rest_keeps_number_budget_and_seed(sections, more):
    old = make_sweep(trials=4, methods=("fake", "other"))
    before, after = Plan(old), Plan(grown(old, changed(old, **sections)))
    assert [key(trial) for trial in after.trials[: len(before.trials)]] == [key(trial) for trial in before.trials]
    assert len(after.trials) == len(before.trials) + more
    assert [trial.number for trial in after.trials] == list(range(len(after.trials)))
    assert len({(trial.method, trial.index) for trial in after.trials}) == len(after.trials)
    slots = {(trial.index, trial.budget, trial.seed) for trial in after.trials}
    assert len(slots) == len({trial.index for trial in after.trials}), "methods of one index differ in budget or seed"


def test_every_budget_gets_what_the_longer_file_says():
    old = make_sweep(trials=4, methods=("fake", "other"))
    new = changed(old, budgets={"list": THREE}, sweep={"trials": 9})
    wanted = counts(Plan(new))
    found = counts(Plan(grown(old, new)))
    assert found == wanted
    twice = grown(grown(old, changed(old, sweep={"trials": 6})), new)
    assert counts(Plan(twice)) == wanted


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"sweep": {"trials": 3}}, "3 trials of fake: the study has 4 already"),
        ({"sweep": {"seed": 1}}, r"sweep\.seed: 0 -> 1: only trials, seeds, budgets"),
        ({"budgets": {"list": THREE[1:]}}, "budget '64KB flash' is not in the sweep file any more"),
        ({"methods": {"names": ["other", "fake"]}}, r"methods\.names = .*must begin with fake, other"),
        ({"training": {"epochs": 99}}, r"training\.epochs: 20 -> 99"),
        ({"network": {"width": 2.0}}, r"network\.width"),
    ],
)
def test_what_is_no_addition_is_refused(sections, says):
    old = make_sweep(trials=4, methods=("fake", "other"))
    with pytest.raises(InputError, match=f"^--extend: {says}"):
        grown(old, changed(old, **sections))


def test_an_extended_study_runs_only_what_is_new_and_continues_as_its_file_says(storage):
    old = make_sweep(trials=2)
    scripted(storage, old)
    before = frame_of(storage)
    new = changed(old, sweep={"trials": 5}, methods={"names": ["fake", "other"]}, budgets={"list": THREE})
    store = Store(storage, writing=True)
    with pytest.raises(InputError, match="or --extend the study"):
        begin_study(store, new)
    study = begin_study(store, new, task={"least": {}}, extend=True)
    assert study.task == {"least": {}}
    assert begin_study(store, new, extend=True) == begin_study(store, new) == study
    store.close()
    report, executor = scripted(storage, stored_sweep(study))
    assert report.finished
    frame = frame_of(storage)
    assert report.counts == {"complete": len(frame)} == {"complete": study.planned_trials}
    assert len(executor.seen) == len(frame) - len(before)
    columns = ["number", "method", "seed", "spec_hash", "accuracy", "finished_at"]
    assert frame[columns].iloc[: len(before)].equals(before[columns])
    again, nothing = scripted(storage, stored_sweep(study), interrupts=Interrupts())
    assert nothing.seen == []
    assert again.finished


def test_a_sweep_file_cannot_claim_to_have_grown(tmp_path):
    from search_spaces.sweep import load_sweep

    path = tmp_path / "s.toml"
    path.write_text('[sweep]\nname="x"\n[task]\nname="digits"\n[network]\nname="resnet8"\n[budgets]\n'
                    'devices=["nrf52840"]\n[grown_from]\na=1\n')  # fmt: skip
    with pytest.raises(InputError, match="unknown key grown_from"):
        load_sweep(path)
