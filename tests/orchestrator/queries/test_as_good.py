"""``best``, the report and the model card say which models cannot be told apart on the validation samples."""

import hashlib
import json

import numpy as np
import pytest

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.terms import RuntimeName
from orchestrator.cli import main as cli
from orchestrator.queries.best import equals_of, find_best
from orchestrator.queries.export import model_card
from orchestrator.queries.trial import load_trial
from orchestrator.spec import VALIDATION, Artifact
from orchestrator.storage.connection import artifact_root
from orchestrator.storage.store import Study
from reports.apart import Validation

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
    sweep = {"sweep": {"name": "c"}, "budgets": {"runtime": "firmware", "list": [{"flash": 24_000, "sram": 1_500}]}}
    study = store.create_study(Study(0, "c", sweep, None, {}, 2, {"python": "3"}, {"cpus": 2}, ""))
    bytes_of_both = {"flash": 20_000, "sram": 4_400, "flash_firmware": 22_000, "sram_firmware": 700}
    for number, runtime in enumerate(RuntimeName):
        trial = store.add_trial(study, number, make_spec(number).model_copy(update={"runtime": runtime}))
        store.finish_attempt(store.begin_attempt(trial), result.model_copy(update=bytes_of_both))
    best = find_best(store, Budget(flash=24_000, sram=1_500))
    assert (best.trial["number"], best.used) == (1, {"flash": 22_000 / 24_000, "sram": 700 / 1_500})
    with pytest.raises(InputError, match=r"the closest is trial 1 .* with 700 B SRAM"):
        find_best(store, Budget(sram=600))
    assert cli.run(["best", "--storage", str(store.url), "--format", "json"]) == 0
    assert [row["sram_firmware"] for row in json.loads(capsys.readouterr().out)] == [700]
