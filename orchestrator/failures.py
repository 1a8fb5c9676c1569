"""Base class of errors that end a valid run: the command line maps it to exit status 1."""

from __future__ import annotations


class RunFailed(RuntimeError):  # noqa: N818  (it reads as what happened)
    """A run could not continue; the message is one line for the user.

    Attributes:
        passing: whether the same command may succeed if it is started again at once.
        resumable: whether stored results are kept and ``resume`` continues from them.
    """

    passing = False
    resumable = True
