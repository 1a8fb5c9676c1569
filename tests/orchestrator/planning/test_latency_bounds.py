"""A bound on latency: the best figures when a study begins decide, and stay decided."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fake_sweep import make_sweep

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import macs_within
from mcu.front_end import FrontEnd
from mcu.latency import Cycles
from orchestrator import latency_bounds
from orchestrator.latency_bounds import with_latency
from orchestrator.planning.extension import grown
from orchestrator.queries.study_budgets import budgets_of
from orchestrator.running.run import begin_study, stored_sweep
from search_spaces.budgets import BudgetsSection
from search_spaces.choices import TaskChoice
from search_spaces.sweep import SweepConfig

BOARD = find_device("stm32f446re")
MEASURED = Cycles(2.4, 2.2, 2.6, "by 1 model measured on stm32f446re")


def sweep_with(**budgets) -> SweepConfig:
    section = BudgetsSection(devices=["stm32f446re", "nrf52840"], latency="50ms", **budgets)
    return make_sweep().model_copy(update={"budgets": section})


def test_measured_boards_decide_when_a_study_begins_and_not_later(store, monkeypatch):
    assumed = with_latency(sweep_with(), str(store.url))
    assert assumed.latency_macs == {name: macs_within(find_device(name), 50_000) for name in assumed.budgets.devices}
    only = lambda _, device: MEASURED if device == BOARD else None  # noqa: E731
    with monkeypatch.context() as measuring:
        measuring.setattr(latency_bounds, "measured_cycles", only)
        sweep = with_latency(sweep_with(), str(store.url))
    assert sweep.latency_macs["stm32f446re"] == macs_within(BOARD, 50_000, MEASURED)
    assert sweep.latency_macs["stm32f446re"] < assumed.latency_macs["stm32f446re"]
    assert sweep.latency_macs["nrf52840"] == assumed.latency_macs["nrf52840"]
    study = begin_study(store, sweep)
    later = with_latency(sweep_with(), str(store.url))
    assert later.latency_macs == assumed.latency_macs
    assert begin_study(store, later).id == study.id, "the same file continues its study"
    assert [budget.macs for budget in budgets_of(study)] == list(sweep.latency_macs.values())
    assert stored_sweep(study).planned_budgets() == budgets_of(study)
    longer = later.model_copy(update={"sweep": later.sweep.model_copy(update={"trials": 99})})
    assert grown(stored_sweep(study), longer).latency_macs == sweep.latency_macs
    assert "latency_macs" not in make_sweep().model_dump()


def test_a_front_end_takes_its_instructions_out_of_the_time_of_a_firmware_budget(store, monkeypatch):
    task = TaskChoice(name="spoken-digits")
    ends = {name: SimpleNamespace(front_end=FrontEnd(mels=mels)) for name, mels in (("a", 20), ("b", 40))}
    monkeypatch.setattr("orchestrator.planning.preflight.input_tasks", lambda _: ends)
    cost = lambda front_end, core: SimpleNamespace(instructions=30_000 * front_end.mels)  # noqa: E731
    monkeypatch.setattr("mcu.firmware.front_end_run.measure_front_end", cost)
    plain = with_latency(sweep_with().model_copy(update={"task": task}), str(store.url))
    front = with_latency(sweep_with(runtime="firmware").model_copy(update={"task": task}), str(store.url))
    assert plain.latency_macs["stm32f446re"] == macs_within(BOARD, 50_000)
    assert front.latency_macs["stm32f446re"] == macs_within(BOARD, 50_000, before=1_200_000)
    assert front.latency_macs["stm32f446re"] < 0.9 * plain.latency_macs["stm32f446re"]
    with pytest.raises(InputError, match="behind the 40,000,000 instructions of the front end"):
        macs_within(BOARD, 50_000, before=40_000_000)
