"""The one exception for bad input."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that names what was given, where, and what is allowed. The command line
    prints it to stderr and exits with status 2; library users catch it like any ``ValueError``.
    """
