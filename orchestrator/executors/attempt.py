"""One attempt inside a worker process: import the worker function, set threads, convert exceptions to results."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcu.errors import InputError
from mcu.terms import TrialState
from orchestrator.executors.base import LossReason
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from search_spaces.factories import local_path, moved

ReportEpoch = Callable[[EpochReport], bool]
WorkerFunction = Callable[[TrialSpec, Path, ReportEpoch], TrialResult]
DEFAULT_WORKER = "orchestrator.worker.trial:run_trial"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MALLOC = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20}
"""Parameters of glibc's mallopt(3) and their largest useful values; see ``keep_freed_memory``."""


@dataclass(frozen=True)
class WorkerSetting:
    """Settings shared by all attempts of a sweep.

    Attributes:
        worker: ``module:function`` that runs a trial.
        artifacts: absolute folder for the trials' files; on another machine one of its own stands for it.
        paths: folders to import the user's modules from, as the sweep names them.
        moves: where such folders, and the task's data, are on this machine, if elsewhere.
        threads: torch threads of one trial.
    """

    worker: str
    artifacts: str
    paths: tuple[str, ...] = ()
    threads: int = 1
    moves: Mapping[str, str] = field(default_factory=dict)


class AttemptFault(Exception):  # noqa: N818  (it reads as what happened)
    """An attempt failed because of its machine (memory, disk, packages): it may be retried, best on another one."""

    def __init__(self, reason: LossReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


_FAULTS = (OSError, ImportError, MemoryError)


def run_attempt(setting: WorkerSetting, spec_json: str, report: ReportEpoch) -> TrialResult:
    """Run one trial in this process. Any error of the trial becomes a failed result with a one-line reason.

    Raises:
        AttemptFault: something is wrong with the machine: its memory, its disk, its packages.
    """
    start = time.monotonic()
    try:
        limit_threads(setting.threads)
        keep_freed_memory()
        moved(setting.moves)
        extend_path(map(local_path, setting.paths))
        spec = TrialSpec.model_validate_json(spec_json)
        run: WorkerFunction = _find(setting.worker)
        return run(spec, Path(setting.artifacts), report)
    except Exception as error:
        if _of_machine(error):
            raise fault_of(error) from error
        reason = _line(str(error)) if isinstance(error, InputError) else _line(f"{type(error).__name__}: {error}")
    return TrialResult(state=TrialState.FAILED, reason=reason, duration_s=time.monotonic() - start)


def _of_machine(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is a fault of the machine."""
    while error is not None:
        if isinstance(error, _FAULTS) or _starved(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _starved(error: BaseException) -> bool:
    text = str(error)  # what torch says on a CPU, and of a GPU
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "CUDA out of memory" in text


def fault_of(error: BaseException) -> AttemptFault:
    """The error as a fault of this machine, in one line."""
    if _starved(error):
        return AttemptFault(LossReason.OUT_OF_MEMORY, _line(str(error) or "out of memory"))
    named = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return AttemptFault(LossReason.ENVIRONMENT, _line(named))


def limit_threads(threads: int) -> None:
    """Limit the process to ``threads`` threads, also if torch was loaded with another number."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation; no effect with other C libraries.

    By default it returns the activations of a training step to the kernel after each step, and the kernel maps and
    zeroes every page again for the next step: 1 to 5 % of a step (``benchmarks/pruning/step_cost.py``).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def extend_path(paths: Iterable[str]) -> None:
    """Put folders at the front of the import path, once each."""
    for path in paths:
        if path not in sys.path:
            sys.path.insert(0, path)


def _find(worker: str) -> WorkerFunction:
    module, _, name = worker.partition(":")
    found: WorkerFunction = getattr(importlib.import_module(module), name)
    return found


def _line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:500] if lines else "unknown error"
