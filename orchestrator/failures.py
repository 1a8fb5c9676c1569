"""The base of what can end a run that was started well: the command line turns it into exit status 1."""

from __future__ import annotations


class RunFailed(RuntimeError):  # noqa: N818  (it reads as what happened)
    """A run could not go on; the message is one line for the user.

    Attributes:
        passing: whether the same command may well succeed if it is started again at once.
        resumable: whether what is stored is kept and ``resume`` goes on with it.
    """

    passing = False
    resumable = True
