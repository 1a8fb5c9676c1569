"""Tasks a sweep may choose: labelled arrays in disjoint training, validation and test splits."""

from search_spaces.tasks.registry import TaskEntry, check_task, describe_task, load_task, task_digest, task_names
from search_spaces.tasks.task import Task

__all__ = ["Task", "TaskEntry", "check_task", "describe_task", "load_task", "task_digest", "task_names"]
