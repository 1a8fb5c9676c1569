"""Stored specifications and sweeps keep their JSON: trials of old databases are recognised by it."""

import hashlib

import pytest

from mcu.budget import Budget
from orchestrator.spec import TrialSpec
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.sweep import SweepConfig

THREE_BOUNDS = "77d8dfc50c7f8d57d011578b66326ba81c2187f2c99fd5ba6baaa9122a65f519"
SRAM_ONLY = "ad3b41739701b74f823af324bc129e1b2c1345bb2930d16d767c45926708b533"
NO_BOUND = "0c878562bee6ed00b1276f792395df1ca8b8aa9bb73f08f613bb91b29039485d"
OF_DEVICE = "d6bd5d94521392d94ccf11e16dee005e12dab5be9def28f656bd50a75bba0858"
OF_TWO = "1acefc2c94ea6308e5d32d9cd4bcfdf4b82c345c6afe5798784f377e49577d2d"


def spec(budget, device=None):
    return TrialSpec(
        task=TaskChoice(name="mnist-5k"), network=NetworkChoice(name="tiny"), method="uniform", device=device,
        budget=budget, seed=7, training=TrainingChoice(epochs=3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "device", "known"),
    [
        (Budget("64KB", "16KB", "4.4M", name="mine"), None, THREE_BOUNDS),
        (Budget(sram=12_000), None, SRAM_ONLY),
        (Budget(), None, NO_BOUND),
        (Budget("384KB", "96KB", device="stm32f446re"), "stm32f446re", OF_DEVICE),
    ],
)
def test_a_specification_has_the_hash_it_always_had(budget, device, known):
    made = spec(budget, device)
    assert made.hash() == known
    assert TrialSpec.model_validate_json(made.canonical()) == made


def test_a_sweep_with_listed_budgets_is_stored_as_it_always_was():
    budgets = [{"flash": "64KB", "sram": "16KB", "macs": "4M"}, {"sram": "12kB", "name": "mine"}]
    sweep = SweepConfig.model_validate(
        {"sweep": {"name": "s"}, "task": {"name": "mnist-5k"}, "network": {"name": "resnet8"}}
        | {"budgets": {"list": budgets}}
    )
    assert hashlib.sha256(sweep.canonical().encode()).hexdigest() == OF_TWO
    assert SweepConfig.model_validate_json(sweep.canonical()) == sweep
