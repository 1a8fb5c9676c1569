"""What a driver is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.executors.base import Executor
from orchestrator.planning.budget_plan import BudgetPlan
from orchestrator.planning.plan import Plan
from orchestrator.running.disk_guard import DiskGuard
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.stop_rule import StopRule
from orchestrator.running.watcher import Watcher
from orchestrator.samplers.base import Sampler
from orchestrator.spec import TrialResult
from orchestrator.storage.optuna_mirror import OptunaMirror
from orchestrator.storage.store import Store, Study


@dataclass(frozen=True)
class Retries:
    """Retry policy of a trial whose worker died: number of attempts, and waiting time (seconds), doubled each time.

    An attempt that runs for longer than ``longest_run`` seconds is ended, and tried again as well.
    """

    max_attempts: int = 3
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_run: float = math.inf

    def wait(self, failures: int) -> float:
        """Seconds to wait before the next attempt after that many failures."""
        return min(self.longest_wait, self.first_wait * 2 ** (failures - 1))


@dataclass(frozen=True)
class DriverParts:
    """Components of the driver; all can be replaced in tests.

    Attributes:
        left_network: whether the trained network of a complete trial is available and undamaged, so that another trial
            can start from it.
        keep: called before a result is stored, so that its files are safe first.
    """

    store: Store
    study: Study
    plan: Plan
    mirror: OptunaMirror
    sampler: Sampler
    executor: Executor
    stop_rule: StopRule
    budgets: BudgetPlan = field(default_factory=BudgetPlan)
    watcher: Watcher = field(default_factory=Watcher)
    interrupts: Interrupts = field(default_factory=Interrupts)
    retries: Retries = field(default_factory=Retries)
    on_result: Callable[[], None] = lambda: None
    left_network: Callable[[TrialResult], bool] = lambda _: True
    keep: Callable[[TrialResult], None] = lambda _: None
    disk: DiskGuard = field(default_factory=DiskGuard)
