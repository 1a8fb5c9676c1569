"""A sweep whose trials begin with one another's networks keeps every promise that a sweep of independent ones keeps."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fake_sweep
import pytest
from fake_sweep import OPTIONS, run
from optuna.trial import FrozenTrial
from scripted import ScriptedExecutor, frame_of, good
from scripted import scripted as run_scripted

from orchestrator.executors.base import Finished, LossReason, Lost
from orchestrator.planning.inputs import network_key
from orchestrator.planning.lineage import has_more_room
from orchestrator.planning.plan import LEAST, Plan
from orchestrator.planning.planned_trial import Trained
from orchestrator.running.interrupts import Interrupts, Wish
from orchestrator.running.queue import Queue
from orchestrator.running.run import begin_study, stored_sweep
from orchestrator.running.watcher import Watcher
from orchestrator.spec import FILES, NETWORK, TrialResult, TrialSpec
from orchestrator.storage.connection import artifact_root
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig

LADDER = [
    *({"name": f"flash-{n}", "flash": n * 10_000, "sram": 90_000} for n in (6, 4, 2)),
    *({"name": f"sram-{n}", "flash": 90_000, "sram": n * 10_000} for n in (6, 4, 2)),
]
COMPARED = ["number", "state", "spec_hash", "accuracy", "val_accuracy", "flash", "seed", "method"]


def sweep_of(
    trials: int = 12, methods: tuple[str, ...] = ("heir", "fake"), budgets=LADDER, seeds: int | None = None, **wishes
) -> SweepConfig:
    dump = fake_sweep.make_sweep(trials=trials, methods=methods, **wishes).model_dump(mode="json")
    dump["sweep"]["seeds"] = seeds
    dump["budgets"] = budgets if isinstance(budgets, dict) else {"list": budgets}
    dump["lineage"] = {"enabled": True}
    return SweepConfig.model_validate(dump)


def scripted(storage, sweep, script=None, **more):
    """Scripted trials leave no files; their word is taken for it."""
    return run_scripted(storage, sweep, script or (lambda attempt, spec, nth: [Finished(attempt, heir(spec))]), **more)


def heir(spec) -> TrialResult:
    return good(spec.model_copy(update={"hyperparameters": {"quality": 0.5}}))


@pytest.fixture(autouse=True)
def _word_is_enough(request, monkeypatch):
    if "scripted" in request.node.name:
        monkeypatch.setattr("orchestrator.running.run.left_network", lambda *_: lambda result: True)


def specs(storage):
    store = Store(storage)
    found = {trial.number: trial.spec for trial in store.trials(store.study())}
    store.close()
    return found


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path):
    tables = []
    for workers in (1, 2, 4):
        storage = f"sqlite:///{tmp_path / str(workers)}/sweep.db"
        (tmp_path / str(workers)).mkdir()
        report = run(storage, sweep_of(), replace(OPTIONS, workers=workers))
        assert report.counts == {"complete": 25}
        tables.append(frame_of(storage)[COMPARED])
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_scripted_trials_that_are_done_leave_nothing_in_memory_that_is_large(storage):
    """Specifications, results and Optuna's trials are a few KB each: 5,000 of them were 45 MB."""
    kept: list[Counter[str]] = []

    class Looking(Watcher):
        def finished(self, number, spec, result, reused_from):
            executor.seen.clear()
            if number % 6 == 5:
                gc.collect()
                large = (TrialSpec, TrialResult, FrozenTrial)
                kept.append(Counter(type(it).__name__ for it in gc.get_objects() if isinstance(it, large)))

    executor = ScriptedExecutor(lambda attempt, spec, nth: [Finished(attempt, heir(spec))])
    run(storage, sweep_of(trials=24, methods=("heir",)), make_executor=lambda *_: executor, watcher=Looking())
    assert len(kept) >= 4
    assert sum((kept[-1] - kept[0]).values()) <= 6, kept


def test_scripted_trials_wait_for_their_ancestor_and_a_chain_goes_down_to_its_end(storage):
    seen = []

    def script(attempt, spec, nth):
        known = {other.hash() for other in executor.seen[:-1]}
        assert spec.ancestor is None or spec.ancestor in known
        seen.append(spec)
        return [Finished(attempt, heir(spec))]

    executor = ScriptedExecutor(script, capacity=1)
    run(storage, sweep_of(trials=6), make_executor=lambda *_: executor)
    found = specs(storage)
    assert (
        sum(spec.ancestor is None for spec in found.values()) == 1 + 6
    )  # the parent, and the method without ancestors
    hashes = {spec.hash(): spec for spec in found.values()}
    for spec in found.values():
        if spec.ancestor:
            ancestor = hashes[spec.ancestor]
            assert not ancestor.budget.bounds() or has_more_room(ancestor.budget, spec.budget)
            assert spec.parent == found[0].hash()
    order = [(spec.method, spec.budget.flash, spec.budget.sram) for spec in seen[:5]]
    assert order == [
        ("dense-ptq", None, None),
        ("heir", 60_000, 90_000), ("heir", 40_000, 90_000), ("heir", 20_000, 90_000), ("heir", 90_000, 60_000),
    ]  # fmt: skip


@pytest.mark.parametrize(("workers", "least"), [(1, 13), (2, 7), (3, 5), (4, 4), (6, 4)])
def test_a_queue_wastes_no_worker_on_the_way_down(workers, least):
    """In rounds of equal length the sweep ends as early as its chains and the number of workers allow."""
    plan = Plan(sweep_of(trials=12, methods=("heir",)))
    queue, rounds = Queue(plan.lineage), 0
    assert plan.lineage.depths == [0] + [1, 2, 3] * 2 + [1, 2, 3] * 2
    while len(queue):
        taken = [number for _ in range(workers) if (number := queue.next(workers)) is not None]
        for number in taken:
            queue.ended(number, Trained("", plan.trials[number].budget, None))
        rounds += 1
    assert rounds == least


def test_scripted_heirs_train_by_what_the_study_notes_of_its_networks(storage):
    sweep = sweep_of(trials=3, methods=("heir",), budgets=LADDER[:3])
    sweep = sweep.model_copy(update={"training": sweep.training.model_copy(update={"epochs": 20})})
    key = network_key(sweep.network.choices()[0], ())
    store = Store(storage, writing=True)
    study = begin_study(store, sweep, task={LEAST: {key: {"flash": 10_000, "sram": 0, "macs": 0}}})
    scripted(storage, sweep)
    found = {trial.spec.budget.label: trial.spec.training.epochs for trial in store.trials(study)}
    store.close()
    assert list(found.values()) == [40, 20, 10, 18]


@pytest.mark.parametrize("end", ["failed", "infeasible", "stopped", "lost"])
def test_scripted_ancestor_that_ended_without_a_network_is_passed_over_for_the_next(storage, end):
    def script(attempt, spec, nth):
        if spec.method == "heir" and spec.budget.flash == 40_000:
            if end == "lost":
                return [Lost(attempt, LossReason.WORKER_DIED, "")]
            return [Finished(attempt, TrialResult(state=end, reason="as told"))]
        return [Finished(attempt, heir(spec))]

    report, _ = scripted(storage, sweep_of(trials=6), script)
    assert report.finished
    found = specs(storage)
    of = {(spec.method, spec.budget.flash, spec.budget.sram): spec for spec in found.values()}
    assert of["heir", 20_000, 90_000].ancestor == of["heir", 60_000, 90_000].hash()


def test_scripted_jobs_are_independent_ones_if_the_parent_fails(storage):
    def script(attempt, spec, nth):
        failed = TrialResult(state="failed", reason="diverged")
        return [Finished(attempt, failed if not spec.budget.bounds() else heir(spec))]

    report, _ = scripted(storage, sweep_of(trials=6), script)
    assert report.counts == {"failed": 1, "complete": 12}
    assert all(spec.ancestor is None and spec.parent is None for spec in specs(storage).values())
    assert {spec.training.epochs for n, spec in specs(storage).items() if n} == {20}


def test_a_network_whose_file_is_gone_or_damaged_is_passed_over_by_what_is_added_later(storage):
    sweep = sweep_of(trials=6)
    run(storage, sweep)
    before = frame_of(storage)
    store = Store(storage, writing=True)
    hashes = {spec.budget.flash: spec for spec in specs(storage).values() if spec.method == "heir"}
    (artifact_root(store.url) / hashes[40_000].hash() / FILES[NETWORK]).write_bytes(b"damaged")
    longer = sweep_of(trials=7, budgets=[*LADDER, {"name": "middle", "flash": 30_000, "sram": 90_000}])
    study = begin_study(store, longer, extend=True)
    store.close()
    report = run(storage, stored_sweep(study))
    assert report.counts == {"complete": 15}
    assert frame_of(storage)[COMPARED].iloc[: len(before)].equals(before[COMPARED])
    middle = next(s for s in specs(storage).values() if s.budget.flash == 30_000 and s.method == "heir")
    assert middle.ancestor == hashes[60_000].hash()


def test_a_budget_in_the_middle_inherits_and_nothing_runs_twice(storage):
    run(storage, sweep_of(trials=6))
    before = frame_of(storage)
    store = Store(storage, writing=True)
    longer = sweep_of(trials=7, budgets=[*LADDER, {"name": "middle", "flash": 30_000, "sram": 90_000}])
    study = begin_study(store, longer, extend=True)
    store.close()
    run(storage, stored_sweep(study))
    after = frame_of(storage)
    columns = [*COMPARED, "finished_at", "attempts"]
    assert after[columns].iloc[: len(before)].equals(before[columns])
    found = specs(storage)
    of = {spec.budget.flash: spec for spec in found.values() if spec.method == "heir" and spec.budget.sram == 90_000}
    assert of[30_000].ancestor == of[40_000].hash()
    assert of[20_000].ancestor == of[40_000].hash()


def test_an_equal_line_of_another_study_is_taken_over_whole(storage):
    sweep = sweep_of()
    run(storage, sweep)
    again = sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"name": "t"})})
    report = run(storage, again)
    assert report.counts == {"complete": 25}
    frame = frame_of(storage)
    assert list(frame["reused_from"]) == [f"s#{number}" for number in range(25)]


def test_scripted_interruption_and_resume_give_the_trials_of_one_run(tmp_path):
    whole, parts = f"sqlite:///{tmp_path}/whole.db", f"sqlite:///{tmp_path}/parts.db"
    sweep = sweep_of()
    scripted(whole, sweep)
    for finished in (1, 5, 9, 14):
        interrupts, ended = Interrupts(), []

        def script(attempt, spec, nth, interrupts=interrupts, ended=ended, finished=finished):
            ended.append(spec)
            if len(ended) >= finished:
                interrupts.wish = Wish.STOP_NOW
                return []
            return [Finished(attempt, heir(spec))]

        scripted(parts, sweep, script, interrupts=interrupts)
    report, _ = scripted(parts, sweep)
    assert report.counts == {"complete": 25}
    assert frame_of(parts)[COMPARED].equals(frame_of(whole)[COMPARED])


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_scripted_samplers_that_learn_take_up_what_was_asked_out_of_turn(tmp_path, sampler):
    storage, sweep = f"sqlite:///{tmp_path}/sweep.db", sweep_of(trials=18)
    sweep = sweep.model_copy(update={"sampler": sweep.sampler.model_copy(update={"name": sampler})})
    interrupts, ended = Interrupts(), []

    def script(attempt, spec, nth):
        ended.append(spec)
        if len(ended) == 20:
            interrupts.wish = Wish.STOP_NOW
            return []
        return [Finished(attempt, heir(spec))]

    scripted(storage, sweep, script, interrupts=interrupts)
    report, rest = scripted(storage, sweep)
    assert report.counts == {"complete": 37}
    assert len(ended) + len(rest.seen) == 38  # the interrupted one once more
    import optuna

    study = optuna.load_study(study_name="s", storage=storage)
    rows = frame_of(storage).set_index("number")
    for trial in study.trials:
        number = trial.user_attrs.get("mcusweep_number", trial.number)
        assert trial.user_attrs["spec_hash"] == rows.loc[number, "spec_hash"]


@pytest.mark.parametrize("seeds", [None, 2])
def test_scripted_adaptive_budgets_inherit_from_what_is_through(storage, seeds):
    ranges = {"flash": [20_000, 80_000], "sram": [20_000, 80_000], "count": 4, "plan": "adaptive"}
    trials, parents = 12 * (seeds or 1), seeds or 1
    report, _ = scripted(storage, sweep_of(trials=trials, methods=("heir",), budgets=ranges, seeds=seeds))
    assert report.counts == {"complete": trials + parents}
    hashes = {spec.hash(): spec for spec in specs(storage).values()}
    heirs = [spec for spec in hashes.values() if spec.ancestor]
    assert len(heirs) == trials
    for spec in heirs:
        assert seeds is None or hashes[spec.ancestor].seed == spec.seed
        ancestor = hashes[spec.ancestor].budget
        assert not ancestor.bounds() or has_more_room(ancestor, spec.budget)
    assert any(hashes[spec.ancestor].budget.bounds() for spec in heirs[4:])


@pytest.mark.slow
def test_killed_drivers_leave_the_rows_of_an_undisturbed_sweep(tmp_path):
    """kill -9 of drivers of 1, 2 and 4 workers at random moments, then a last run: every row as in peace."""
    calm, wild = (f"sqlite:///{tmp_path / name}/sweep.db" for name in ("calm", "wild"))
    for name in ("calm", "wild"):
        (tmp_path / name).mkdir()
    sweep = sweep_of(sleep=0.05, reports=2)
    run(calm, sweep)
    store = Store(wild, writing=True)
    study = begin_study(store, sweep, None)
    command = [sys.executable, str(Path(fake_sweep.__file__)), wild]
    moments = random.Random(0)
    for target, workers in ((1, 4), (6, 1), (12, 2), (18, 4)):
        driver = subprocess.Popen([*command, str(workers)], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while store.state_counts(study).get("complete", 0) < target and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.2)
        driver.kill()
        driver.wait()
    last = subprocess.run([*command, "2"], capture_output=True, text=True, timeout=120)
    assert last.returncode == 0, last.stderr
    assert frame_of(wild)[COMPARED].equals(frame_of(calm)[COMPARED])
    store.close()
