"""``best``, the report and the model card say which models cannot be told apart on the validation samples."""

import hashlib
import json

import numpy as np
import pytest

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.terms import RuntimeName
from orchestrator.cli import main as cli
from orchestrator.queries.best import budget_for, equals_of, find_best
from orchestrator.queries.export import model_card
from orchestrator.queries.latency import latency_of
from orchestrator.queries.study_status import read_status
from orchestrator.queries.trial import load_trial
from orchestrator.samplers.observation import observe
from orchestrator.spec import VALIDATION, Artifact
from orchestrator.storage.connection import artifact_root
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Study
from orchestrator.studies.prune import find_waste
from reports.apart import Validation
from reports.trials import tidy
from reports.winners import winners

LABELS = np.arange(500) % 10


@pytest.fixture
def noisy(store, study, make_spec, result):
    """Three models of one budget: 450, 449 and 410 of 500 right, the first two the same but for five samples."""
    root = artifact_root(store.url)
    root.mkdir(parents=True)
    for number, (flash, wrong) in enumerate(((60_000, range(50)), (40_000, range(2, 53)), (9_000, range(90)))):
        answered = LABELS.copy()
        answered[list(wrong)] += 1
        data = Validation.of(LABELS, answered).encode()
        (root / f"{number}.json").write_bytes(data)
        kept = Artifact(path=f"{number}.json", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        changed = {"flash": flash, "val_accuracy": 1 - len(wrong) / 500, "artifacts": {VALIDATION: kept}}
        trial = store.add_trial(study, number, make_spec(number))
        store.finish_attempt(store.begin_attempt(trial), result.model_copy(update=changed))
    return store


def test_the_smaller_of_two_that_cannot_be_told_apart_is_best(noisy):
    best = find_best(noisy, Budget(flash=65_536))
    assert (best.trial["number"], best.as_good) == (1, ("0",))
    assert [row["number"] for row in best.runners_up] == [0, 2]
    assert "artifacts" not in best.trial
    assert (
        "validation accuracy 89.80 %, of 3 measured models that fit 64KB flash the smallest within one standard error "
        "of the highest, trial 0 with 90.00 %; trial 0 is as good on 500 validation samples (McNemar, 5 %)"
    ) in best.reason
    assert best.as_dict()["as_good"] == ["0"]
    assert find_best(noisy, Budget(flash=10_000)).as_good == ()


def test_a_file_that_is_gone_or_another_makes_no_claim(noisy):
    (artifact_root(noisy.url) / "0.json").write_text("{}")
    best = find_best(noisy, Budget(flash=65_536))
    assert (best.trial["number"], best.as_good) == (0, ())
    assert "as good" not in best.reason


def test_the_model_card_and_the_report_name_them(noisy, tmp_path, storage):
    line = equals_of(noisy, load_trial(noisy, "1"))
    assert line == "trial 0 is as good on 500 validation samples (McNemar, 5 %)"
    assert line in model_card(load_trial(noisy, "1"), b"", "", line)
    assert equals_of(noisy, load_trial(noisy, "2")) == ""
    assert cli.run(["report", "--storage", storage, "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "of 3 that fit the smallest within one standard error of the highest" in page
    assert 'as good on 500 validation samples: <a href="#trial-0">0</a>' in page
    (winner,) = json.loads((tmp_path / "report" / "fronts.json").read_text())["winners"]
    assert (winner["trial"]["number"], [each["number"] for each in winner["as_good"]]) == (1, [0])


def test_bounds_of_firmware_are_compared_with_the_firmware(store, make_spec, result, capsys):
    sweep = {
        "sweep": {"name": "c"},
        "network": {"name": "tiny"},
        "budgets": {"runtime": "firmware", "list": [{"flash": 24_000, "sram": 1_500}]},
    }
    study = store.create_study(Study(0, "c", sweep, None, {}, 2, {"python": "3"}, {"cpus": 2}, ""))
    bytes_of_both = {"flash": 20_000, "sram": 4_400, "flash_firmware": 22_000, "sram_firmware": 700}
    for number, runtime in enumerate(RuntimeName):
        asked = {"runtime": runtime, "budget": Budget(flash=24_000, sram=1_500)}
        trial = store.add_trial(study, number, make_spec(number).model_copy(update=asked))
        store.finish_attempt(store.begin_attempt(trial), result.model_copy(update=bytes_of_both))
    best = find_best(store, Budget(flash=24_000, sram=1_500))
    assert (best.trial["number"], best.used) == (1, {"flash": 22_000 / 24_000, "sram": 700 / 1_500})
    with pytest.raises(InputError, match=r"the closest is trial 1 .* with 700 B SRAM"):
        find_best(store, Budget(sram=600))
    assert cli.run(["best", "--storage", str(store.url), "--format", "json"]) == 0
    assert [row["sram_firmware"] for row in json.loads(capsys.readouterr().out)] == [700]


@pytest.fixture
def two_cores(store, make_spec, result):
    """Two C programs of about the same size, each for the core of its device; the interpreter's arena is over both."""
    sweep = {
        "sweep": {"name": "c"},
        "network": {"name": "tiny"},
        "budgets": {"runtime": "firmware", "devices": ["stm32f103c8", "stm32l053r8"]},
    }
    study = store.create_study(Study(0, "c", sweep, None, {}, 2, {"python": "3"}, {"cpus": 2}, ""))
    for number, (device, right) in enumerate((("stm32f103c8", 0.95), ("stm32l053r8", 0.9))):
        asked = {"runtime": RuntimeName.FIRMWARE, "device": device, "budget": budget_for(device)}
        ran = {"val_accuracy": right, "flash_firmware": 22_000 + number, "sram_firmware": 700, "instructions": 10**6}
        trial = store.add_trial(study, number, make_spec(number).model_copy(update=asked))
        store.finish_attempt(store.begin_attempt(trial), result.model_copy(update=ran))
    return store, study


def test_the_bytes_and_the_latency_of_a_program_hold_for_the_devices_of_its_core(two_cores):
    store, study = two_cores
    best = find_best(store, budget_for("stm32g071rb"))
    assert (best.trial["number"], best.fitting) == (1, 1)
    assert find_best(store, Budget(flash=24_000)).trial["number"] == 0
    with pytest.raises(InputError, match="none with a program for the core of nrf52832 has finished yet"):
        find_best(store, budget_for("nrf52832"))
    table = tidy(trials_frame(store, study))
    assert {(won.device, won.row, won.fitting) for won in winners(table)} == {
        ("stm32f103c8", 0, 1),
        ("stm32l053r8", 1, 1),
    }
    assert find_waste(store, details=True, models=True).details == []
    trial = load_trial(store, "1")
    assert set(latency_of(store, trial, "stm32g071rb")) == {"latency_ms", "latency", "latency_origin"}
    assert latency_of(store, trial, "stm32f103c8") == {}


def test_the_status_and_the_samplers_compare_bounds_of_firmware_with_the_firmware(two_cores):
    store, study = two_cores
    assert [each.use["sram"] for each in read_status(store, study).budgets] == [700 / 15_360, 700 / 4_096]
    known = store.trials(study)[1]
    told = observe(known.result, known.spec.budget, known.spec.runtime)
    assert told.constraints == {"flash": 22_001 / 32_768 - 1, "sram": 700 / 4_096 - 1}
    assert told.values == (0.9, 22_001, 700, known.result.macs)


def test_a_board_without_the_interpreter_has_no_best_among_models_for_it(noisy):
    with pytest.raises(InputError, match="TensorFlow Lite Micro does not run on its core: allowed is runtime"):
        find_best(noisy, budget_for("arduino-uno"))
    with pytest.raises(InputError, match="none with a program for the core of atmega328p"):
        find_best(noisy, budget_for("arduino-uno"), studies=("*",))
