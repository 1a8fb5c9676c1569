"""Trials on a virtual clock with synthetic learning curves and worker failures: tests the real driver at any scale.

The curves are a stand-in with the shape of real ones (accuracy rises towards what hyperparameters and budget
allow, resources shrink towards the budget); nothing here is a measurement and its results have ``measured`` false.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcu.budget import Resources
from mcu.terms import RuntimeName, TrialState
from orchestrator.executors.base import Event, Executor, Finished, LossReason, Lost, Reported, Started
from orchestrator.samplers.base import derive_seed
from orchestrator.spec import EpochReport, TrialResult, TrialSpec


@dataclass(frozen=True)
class SimulatedTrial:
    """Course of one simulated trial: seconds between reports, its reports, its result."""

    seconds: tuple[float, ...]
    reports: tuple[EpochReport, ...]
    result: TrialResult


Curve = Callable[[TrialSpec], SimulatedTrial]


@dataclass
class _Attempt:
    trial: SimulatedTrial
    dies_after: int | None
    reported: int = 0
    stopping: bool = False


class SimulatedExecutor(Executor):
    """A discrete-event simulation of ``workers`` workers.

    Args:
        seed: of the worker failures; together with the specifications it determines everything.
        workers: how many trials run in parallel.
        curve: course of a trial; `synthetic_trial` by default.
        death_rate: probability that an attempt's worker dies before it ends.
    """

    def __init__(self, seed: int, workers: int, curve: Curve | None = None, death_rate: float = 0.0) -> None:
        self._seed, self._workers, self._curve, self._death_rate = seed, workers, curve or synthetic_trial, death_rate
        self._clock = 0.0
        self._busy_seconds = 0.0
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, str]] = []
        self._attempts: dict[str, _Attempt] = {}
        self._tries: dict[str, int] = {}
        self._ready: deque[Event] = deque()

    @property
    def capacity(self) -> int:
        """How many attempts can run in parallel."""
        return self._workers

    @property
    def utilisation(self) -> float:
        """Fraction of the workers' virtual time that was spent on trials."""
        return self._busy_seconds / (self._workers * self._clock) if self._clock else 0.0

    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._clock

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt at the current virtual time."""
        trial = self._curve(spec)
        key = spec.hash()
        self._tries[key] = self._tries.get(key, 0) + 1
        luck = np.random.default_rng([self._seed, derive_seed(key), self._tries[key]])
        dies = int(luck.integers(len(trial.seconds))) if luck.random() < self._death_rate else None
        self._attempts[attempt] = _Attempt(trial, dies)
        self._ready.append(Started(attempt, "simulated", 0))
        self._schedule(attempt)

    def _schedule(self, attempt: str) -> None:
        state = self._attempts[attempt]
        moment = self._clock + state.trial.seconds[state.reported]
        heapq.heappush(self._agenda, (moment, next(self._order), attempt))

    def poll(self, timeout: float) -> list[Event]:
        """Events up to the next event time; the clock advances to it."""
        if not self._ready and not self._agenda:
            self._clock += timeout
        if not self._ready and self._agenda:
            moment = self._agenda[0][0]
            while self._agenda and self._agenda[0][0] <= moment:
                _, _, attempt = heapq.heappop(self._agenda)
                if attempt in self._attempts:
                    self._advance(attempt, moment)
            self._clock = moment
        events, self._ready = list(self._ready), deque()
        return events

    def _advance(self, attempt: str, moment: float) -> None:
        state = self._attempts[attempt]
        self._busy_seconds += state.trial.seconds[state.reported]
        self._clock = moment
        if state.dies_after == state.reported:
            self._end(Lost(attempt, LossReason.WORKER_DIED, "simulated"))
            return
        report = state.trial.reports[state.reported]
        state.reported += 1
        self._ready.append(Reported(attempt, report))
        if state.stopping:
            stopped = TrialResult(
                state=TrialState.STOPPED, reason="stopped early", val_accuracy=report.val_accuracy,
                flash=report.flash, sram=report.sram, macs=report.macs,
                duration_s=sum(state.trial.seconds[: state.reported]),
            )  # fmt: skip
            self._end(Finished(attempt, stopped))
        elif state.reported == len(state.trial.reports):
            self._end(Finished(attempt, state.trial.result))
        else:
            self._schedule(attempt)

    def _end(self, event: Finished | Lost) -> None:
        del self._attempts[event.attempt]
        self._ready.append(event)

    def stop(self, attempt: str) -> None:
        """Stop an attempt at its next report."""
        if attempt in self._attempts:
            self._attempts[attempt].stopping = True

    def withdraw(self, attempt: str) -> None:
        """Drop an attempt."""
        self._attempts.pop(attempt, None)

    def shutdown(self) -> None:
        """Drop all attempts."""
        self._attempts, self._agenda = {}, []
        self._ready.clear()


def synthetic_trial(spec: TrialSpec, levels: int = 8) -> SimulatedTrial:
    """A trial with an exponential learning curve; better for larger budgets and for a learning rate near 0.1."""
    luck = np.random.default_rng(spec.seed)
    rate = float(spec.hyperparameters.get("learning_rate", 0.1))
    size = sum(math.log2(bound) for bound in spec.budget.bounds().values())
    peak = 0.95 - 2.0 ** (-size / 8) - 0.05 * math.log10(max(rate, 1e-6) / 0.1) ** 2 - 0.01 * luck.random()
    peak -= {"differentiable": 0.0, "l1": 0.01}.get(spec.method, 0.02)
    used = {name: int(bound * (0.95 + 0.05 * luck.random())) for name, bound in spec.budget.bounds().items()}
    full = Resources(used.get("flash", 60_000), used.get("sram", 30_000), used.get("macs", 2_000_000))
    seconds = 60.0 * spec.training.epochs / 20 * (0.5 + luck.random())
    shares = [(level + 1) / levels for level in range(levels)]
    return SimulatedTrial(
        seconds=(seconds / levels,) * levels,
        reports=tuple(
            EpochReport(
                step=level,
                epochs_done=share * spec.training.epochs,
                val_accuracy=max(0.1, peak * (1 - math.exp(-4 * share)) + 0.01 * float(luck.standard_normal())),
                flash=int(full.flash * max(1.0, 3 - 5.5 * share)),
                sram=int(full.sram * max(1.0, 3 - 5.5 * share)),
                macs=int(full.macs * max(1.0, 3 - 5.5 * share)),
                phase="simulated",
            )
            for level, share in enumerate(shares)
        ),
        result=TrialResult(
            state=TrialState.COMPLETE,
            accuracy=max(0.1, peak - 0.005),
            val_accuracy=max(0.1, peak),
            flash=full.flash,
            sram=full.sram,
            macs=full.macs,
            violation=0.0,
            feasible=True,
            binding_use=spec.budget.binding_use(full),
            flash_firmware=full.flash if spec.runtime is RuntimeName.FIRMWARE else None,
            sram_firmware=full.sram if spec.runtime is RuntimeName.FIRMWARE else None,
            measured=False,
            duration_s=seconds,
        ),
    )
