"""The command line ``mcusweep``: its commands, and the mapping of errors to exit statuses.

0 done, 1 the run or a trial failed, 2 bad usage or input (one line on stderr), 130 interrupted. Commands import what
they need when they run, so queries of stored results stay fast and load neither torch nor Ray.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from mcu.errors import InputError
from orchestrator.running import supervision, supervisor
from orchestrator.streams import UnwritableAnswer, drop_answers, settle_streams

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="mcusweep",
    help="Sweeps of differentiably pruned networks for microcontrollers, every model measured to fit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _register() -> None:
    from orchestrator.cli import (
        asking,
        catalogues,
        checking,
        comparing,
        dashboard,
        measuring,
        models,
        reporting,
        setup,
        showing,
        status,
        studies,
        sweeping,
    )
    from orchestrator.studies.damage import naming_damage

    for module in (
        sweeping,
        status,
        asking,
        showing,
        comparing,
        reporting,
        dashboard,
        models,
        measuring,
        catalogues,
        checking,
        setup,
    ):
        for command in module.COMMANDS:
            app.command(command.__name__)(naming_damage(command))
    app.add_typer(studies.app, name="study")


def command_group() -> Any:
    """The command line as a click group, for documentation."""
    if not app.registered_commands:
        _register()
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status; commands that run a sweep get a supervisor."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    settle_streams(answers=True)
    supervision.attach()
    if words and words[0] in supervisor.COMMANDS and not supervision.supervised():
        sys.exit(supervisor.supervise(words))
    status = FAILED
    try:
        status = run(words)
    finally:
        if status != supervision.GO_ON_STATUS:
            supervision.tell_end()
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status, errors are one line on stderr."""
    try:
        status = command_group()(args=list(arguments), prog_name="mcusweep", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else DONE
    except InputError as error:
        return _say([str(error)], BAD_INPUT)  # one line, whatever the names in it hold
    except (KeyboardInterrupt, typer.Abort):
        return _say(["interrupted"], INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        drop_answers()
        return DONE
    except UnwritableAnswer as error:
        drop_answers()
        return _say([str(error)], FAILED)
    except Exception as error:
        message, status = _known(error)
        return _say(message.splitlines(), status)


def _known(error: Exception) -> tuple[str, int]:
    """Message and status of an error that is ours or the option parser's; any other is raised again."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return f"{error.format_message()} (see mcusweep --help)", int(error.exit_code)
    from orchestrator.failures import RunFailed

    if isinstance(error, RunFailed):
        return str(error), supervision.GO_ON_STATUS if error.passing and supervision.supervised() else FAILED
    raise error


def _say(lines: Sequence[str], status: int) -> int:
    from orchestrator.tables import printable  # what a user wrote must not steer the terminal

    print(printable(f"mcusweep: {lines[0] if lines else ''}"), *map(printable, lines[1:]), sep="\n", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
