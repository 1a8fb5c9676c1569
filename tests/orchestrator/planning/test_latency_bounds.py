"""A bound on latency: the best figures when a study begins decide, and stay decided."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fake_sweep import make_sweep

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import choose_plan, core_of, instructions_within, predict_instructions
from mcu.front_end import FrontEnd
from mcu.latency import Cycles
from orchestrator import latency_bounds
from orchestrator.latency_bounds import Candidate, candidates_of, with_latency
from orchestrator.planning.extension import grown
from orchestrator.queries.study_budgets import budgets_of
from orchestrator.queries.study_budgets import latency_bounds as bounds_of
from orchestrator.running.run import begin_study, stored_sweep
from random_nets import separable_net
from search_spaces.budgets import BudgetsSection
from search_spaces.choices import TaskChoice
from search_spaces.sweep import SweepConfig

BOARD = find_device("stm32f446re")
MEASURED = Cycles(2.4, 2.2, 2.6, "by 1 model measured on stm32f446re")
FRONT_END = FrontEnd()


def sweep_with(**budgets) -> SweepConfig:
    section = {"devices": ["stm32f446re", "nrf52840"], "latency": "20ms"} | budgets
    return make_sweep().model_copy(update={"budgets": BudgetsSection(**section)})


def instructions(model, device=BOARD) -> int:
    return predict_instructions(model, core_of(device), choose_plan(model, device.core, device.budget()).plan)


def candidate(most: int, front_end: FrontEnd | None = None):
    """A network of so many channels in its widest form."""
    at = lambda scale: separable_net(width=max(1, int(scale * most)), blocks=2)  # noqa: E731
    return SimpleNamespace(label=f"separable {most}", at=at, front_end=front_end)


@pytest.fixture(autouse=True)
def networks(monkeypatch) -> list:
    found = [candidate(64)]
    monkeypatch.setattr(latency_bounds, "candidates_of", lambda sweep: found)
    return found


def test_measured_boards_decide_when_a_study_begins_and_not_later(store, monkeypatch):
    assumed = with_latency(sweep_with(), str(store.url))
    only = lambda _, device: MEASURED if device == BOARD else None  # noqa: E731
    with monkeypatch.context() as measuring:
        measuring.setattr(latency_bounds, "measured_cycles", only)
        sweep = with_latency(sweep_with(), str(store.url))
    assert sweep.latency_macs["stm32f446re"] < 0.7 * assumed.latency_macs["stm32f446re"]  # 2.4 cycles, not 1.5
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
    assert bounds_of(study) == {"stm32f446re": 20.0, "nrf52840": 20.0}


@pytest.mark.parametrize("latency", ["1300us", "2ms", "5ms", "10s"])
def test_the_widest_network_within_the_bound_takes_no_more_time_and_the_next_wider_does(networks, latency):
    sweep = sweep_with(devices=["stm32f446re"], latency=latency)
    bound, allowed = (
        with_latency(sweep, "").latency_macs["stm32f446re"],
        instructions_within(BOARD, sweep.budgets.latency),
    )
    models = [networks[0].at(width / 64) for width in range(1, 65)]
    fitting = [model for model in models if model.macs() <= bound]
    assert fitting
    assert instructions(fitting[-1]) <= allowed
    if len(fitting) < 64:
        assert instructions(models[len(fitting)]) > allowed


def test_of_several_networks_the_slowest_decides_and_none_may_be_too_slow(networks):
    networks.insert(0, candidate(8))  # narrow: more instructions per multiply-accumulate
    models, allowed = [network.at(1) for network in networks], instructions_within(BOARD, 10_000_000)
    per_network = [model.macs() * allowed // instructions(model) for model in models]
    assert with_latency(sweep_with(latency="10s"), "").latency_macs["stm32f446re"] == min(per_network) == per_network[0]
    least = instructions(networks[0].at(0)) * core_of(BOARD).cycles.bound / BOARD.clock_hz * 1000
    with pytest.raises(InputError, match=f"on stm32f446re separable 8 takes about {least:.3g} ms with one channel"):
        with_latency(sweep_with(latency="1ms"), "")


def test_a_front_end_takes_its_instructions_out_of_the_time_of_its_network(networks, monkeypatch):
    cost = lambda front_end, core: SimpleNamespace(instructions=12_000 * front_end.mels)  # noqa: E731
    monkeypatch.setattr(latency_bounds, "measure_front_end", cost)
    plain = with_latency(sweep_with(devices=["stm32f446re"], latency="5ms"), "").latency_macs["stm32f446re"]
    networks[0].front_end = FRONT_END  # of 40 bands; 480,000 instructions are 4 ms
    assert with_latency(sweep_with(devices=["stm32f446re"], latency="9ms"), "").latency_macs["stm32f446re"] == plain
    with pytest.raises(InputError, match="behind the 480,000 instructions of the front end, about 4 ms"):
        with_latency(sweep_with(devices=["stm32f446re"], latency="4ms"), "")


@pytest.mark.parametrize(("runtime", "counts"), [("tflm", False), ("firmware", True)])
def test_the_networks_of_a_sweep_are_narrowed_on_each_of_its_inputs(monkeypatch, runtime, counts):
    tasks = {
        (("stride_ms", stride),): SimpleNamespace(input_shape=(1, frames, 10), outputs=4, cells=(), front_end=FRONT_END)
        for stride, frames in ((20, 49), (40, 25))
    }
    monkeypatch.setattr(latency_bounds, "input_tasks", lambda sweep: tasks)
    sweep = sweep_with(runtime=runtime).model_copy(update={"task": TaskChoice(name="spoken-digits")})
    sweep = sweep.model_copy(update={"network": sweep.network.model_copy(update={"name": "causal-cnn"})})
    found = candidates_of(sweep)
    assert [one.label for one in found] == ["causal-cnn (stride_ms = 20)", "causal-cnn (stride_ms = 40)"]
    assert [one.front_end for one in found] == [FRONT_END if counts else None] * 2
    assert [one.at(1.0).macs() for one in found] == [192 + 49 * 11_232, 192 + 25 * 11_232]
    assert found[0].at(0.5).macs() == pytest.approx(550_560 / 4, rel=0.2)
    assert found[0].at(0.0).macs() < 3_000


def test_a_network_that_fails_with_fewer_channels_says_so_in_one_line(monkeypatch):
    def fails(*given) -> None:
        raise RuntimeError("of torch")

    def rehearse(traced, input_shape) -> None:
        raise InputError(f"network: {traced} fails with fewer channels")

    monkeypatch.setattr(Candidate, "_narrowed", fails)
    monkeypatch.setattr(latency_bounds, "rehearse", rehearse)
    with pytest.raises(InputError, match="network: it fails with fewer channels"):
        Candidate("net", "it", (1, 8, 8)).at(0.5)
