"""A sweep's data, loaded once by the driver and shared with the workers of this or other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mcu.errors import InputError
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.source_code import own_functions, source_digest
from search_spaces.tasks import Task, load_task, task_digest


@dataclass(frozen=True)
class LentTask:
    """A loaded task for sharing, with its source.

    Attributes:
        digest: of the data, as in the specifications of trials.
    """

    choice: TaskChoice
    digest: str
    task: Task

    @property
    def bytes(self) -> int:
        """Size of its arrays."""
        return sum(x.nbytes + y.nbytes for _, x, y in self.task.splits())


MOST_LENT = 2**30
"""Bytes of tasks above which workers map its cached files instead: they share one copy on a machine either way."""

_LENT: dict[str, LentTask] = {}


def lent_tasks(choices: Sequence[TaskChoice]) -> tuple[LentTask, ...]:
    """The tasks to share; none if they are too large, or the data are not on the driver's machine."""
    try:
        lent = tuple(LentTask(choice, task_digest(choice), load_task(choice)) for choice in choices)
    except InputError:
        return ()
    return lent if sum(task.bytes for task in lent) <= MOST_LENT else ()


def borrow(lent: Sequence[LentTask]) -> None:
    """Use shared tasks in this process from now on."""
    _LENT.clear()  # a process works for one sweep at a time
    _LENT.update({task.choice.model_dump_json(): task for task in lent})


def digest_here(choice: TaskChoice) -> str:
    """Digest of a task's data in this process."""
    lent = _LENT.get(choice.model_dump_json())
    return task_digest(choice) if lent is None else lent.digest


def task_here(choice: TaskChoice) -> Task:
    """The task: shared, loaded before, or loaded now."""
    lent = _LENT.get(choice.model_dump_json())
    return _loaded(choice.model_dump_json()) if lent is None else lent.task


@lru_cache(maxsize=4)
def _loaded(choice: str) -> Task:
    """Loaded tasks are kept: a worker process runs many trials of one sweep."""
    return load_task(TaskChoice.model_validate_json(choice))


def code_here(network: NetworkChoice, training: TrainingChoice) -> str | None:
    """Digest of the source of the user's functions as this process imports them: a later change is not seen by it."""
    return _first_digest(*own_functions(network, training))


_first_digest = lru_cache(maxsize=None)(source_digest)
