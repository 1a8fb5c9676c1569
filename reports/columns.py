"""The columns of the trial table: the single definition for database, queries, frames, reports and reference page.

To add a column, add it here; a worker's result is a field of `orchestrator.spec.TrialResult` as well. The list is here
and not with the database because reports read the same table and do not depend on the database.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum, Flag, StrEnum, auto

from mcu.terms import RuntimeName


class ColumnKind(StrEnum):
    """Type of a column, as named on the reference page."""

    TEXT = "text"
    TIME = "time"  # ISO 8601 in UTC, as a text
    INTEGER = "whole number"
    NUMBER = "number"
    TRUTH = "true or false"
    OBJECT = "object"  # JSON: read when named, not filtered by
    LIST = "list"  # likewise, in a table of its own


class Part(Enum):
    """Source of a value."""

    LOOKED_UP = auto()  # not in the trial's row
    DRIVER = auto()
    ASKED = auto()  # the specification
    RESULT = auto()  # the worker's answer
    DENSE = auto()  # the answer, of the unpruned network


class Unit(Enum):
    """Unit of a number, which decides how it is displayed."""

    BYTES = auto()
    OPERATIONS = auto()
    FRACTION = auto()
    SECONDS = auto()


class Better(Enum):
    """Which direction is an improvement."""

    HIGH = auto()
    LOW = auto()


class Shown(Flag):
    """Where a column is shown besides `query` and `show`, which show all columns."""

    NOWHERE = 0
    TERMINAL = auto()  # the tables of `query` and `best`
    CARD = auto()  # the model card of `export`
    COMPARED = auto()  # what `compare` measures two trials by
    DIFF = auto()  # what equal specifications must agree on in `diff`
    OPTUNA = auto()  # an attribute of the trial in Optuna's tables


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        better: None where neither direction is an improvement.
        meaning: one line for the reference page.
        length: maximum characters of a text; None for no limit.
        required: whether every trial has a value from the start.
    """

    name: str
    kind: ColumnKind
    part: Part
    meaning: str
    unit: Unit | None = None
    better: Better | None = None
    shown: Shown = Shown.NOWHERE
    length: int | None = None
    required: bool = False


_TEXT, _TIME, _INTEGER, _NUMBER, _TRUTH, _OBJECT, _LIST = ColumnKind
_LOOKED_UP, _DRIVER, _ASKED, _RESULT, _DENSE = Part
_BYTES, _OPERATIONS, _FRACTION, _SECONDS = Unit
_HIGH, _LOW = Better
_TERMINAL, _CARD, _COMPARED, _DIFF, _OPTUNA = Shown
_EVERYWHERE = _TERMINAL | _CARD | _COMPARED | _DIFF

# fmt: off
CATALOGUE = (
    Column("study", _TEXT, _LOOKED_UP, "name of the study"),
    Column("number", _INTEGER, _DRIVER, "number of the trial in its study, from 0", shown=_TERMINAL, required=True),
    Column("state", _TEXT, _DRIVER,
           "planned, running, complete, infeasible (finished over its budget), stopped (early), cannot (the method "
"does not support the network) or failed",
           shown=_TERMINAL | _DIFF, length=16, required=True),
    Column("reason", _TEXT, _DRIVER, "why it is not complete", shown=_OPTUNA),
    Column("method", _TEXT, _ASKED, "compression method", shown=_TERMINAL, length=128, required=True),
    Column("network", _TEXT, _ASKED, "network that was compressed", shown=_OPTUNA, length=256, required=True),
    Column("task", _TEXT, _ASKED, "data it was trained and tested on", shown=_OPTUNA, length=256, required=True),
    Column("device", _TEXT, _ASKED, "microcontroller of its budget, if any",
           shown=_TERMINAL | _OPTUNA, length=128),
    Column("runtime", _TEXT, _ASKED,
           "what its bounds apply to: tflm (file and arena) or firmware (our C program)",
           length=16, required=True),
    Column("seed", _INTEGER, _ASKED, "seed of its initial weights and batches", shown=_OPTUNA, required=True),
    Column("ancestor", _INTEGER, _LOOKED_UP,
           "number of the trial whose trained network it started from; null if trained from scratch"),
    Column("budget_flash", _INTEGER, _ASKED, "bound on flash, bytes; null if there is none",
           unit=_BYTES, shown=_OPTUNA),
    Column("budget_sram", _INTEGER, _ASKED, "bound on SRAM, bytes; null if there is none",
           unit=_BYTES, shown=_OPTUNA),
    Column("budget_macs", _INTEGER, _ASKED, "bound on multiply-accumulates; null if there is none",
           unit=_OPERATIONS, shown=_OPTUNA),
    Column("val_accuracy", _NUMBER, _RESULT,
           "int8 validation accuracy, same metric: the only one that samplers, stop rules and winners use",
           unit=_FRACTION, better=_HIGH, shown=_EVERYWHERE),
    Column("accuracy", _NUMBER, _RESULT,
           "int8 score on test data, never used for selection, by the metric; by default top-1, 0 to 1",
           unit=_FRACTION, better=_HIGH, shown=_EVERYWHERE | _OPTUNA),
    Column("float_accuracy", _NUMBER, _RESULT, "test accuracy of the same network before int8, by the same metric",
           unit=_FRACTION, better=_HIGH, shown=_CARD | _COMPARED),
    Column("metric", _TEXT, _LOOKED_UP,
           "what the accuracies are measured by: [training] metric of the sweep file, or the name of your own score"),
    Column("flash", _INTEGER, _RESULT, "bytes of the exported .tflite file",
           unit=_BYTES, better=_LOW, shown=_EVERYWHERE),
    Column("sram", _INTEGER, _RESULT, "bytes of the TensorFlow Lite Micro arena, measured with the host build",
           unit=_BYTES, better=_LOW, shown=_EVERYWHERE),
    Column("sram_activations", _INTEGER, _RESULT,
           "the activation part of the arena, input included: the same on every build",
           unit=_BYTES, better=_LOW, shown=_CARD | _COMPARED),
    Column("macs", _INTEGER, _RESULT,
           "multiply-accumulates of convolution, depthwise and dense layers for one inference",
           unit=_OPERATIONS, better=_LOW, shown=_EVERYWHERE),
    Column("flash_firmware", _INTEGER, _RESULT, "bytes of flash of the exported C program, where it was built",
           unit=_BYTES, better=_LOW, shown=_CARD | _COMPARED),
    Column("sram_firmware", _INTEGER, _RESULT,
           "bytes of RAM of the exported C program, static and stack, where it was built",
           unit=_BYTES, better=_LOW, shown=_CARD | _COMPARED),
    Column("instructions", _INTEGER, _RESULT,
           "instructions of one inference, or cycles of an AVR, where the C program was run in an emulator",
           unit=_OPERATIONS, better=_LOW, shown=_CARD | _COMPARED),
    Column("violation", _NUMBER, _RESULT,
           "sum over bounds of max(0, used / bound - 1), on measured values; 0 is within the budget",
           better=_LOW, shown=_COMPARED | _OPTUNA),
    Column("feasible", _TRUTH, _RESULT, "whether violation is 0", better=_HIGH),
    Column("binding_use", _NUMBER, _RESULT,
           "largest of used / bound: utilisation of the tightest bound",
           unit=_FRACTION, shown=_TERMINAL | _CARD | _COMPARED | _OPTUNA),
    Column("measured", _TRUTH, _RESULT, "whether sram was measured by the interpreter, not predicted"),
    Column("duration_s", _NUMBER, _RESULT, "duration of the last attempt, seconds",
           unit=_SECONDS, shown=_TERMINAL | _COMPARED | _OPTUNA),
    Column("attempts", _INTEGER, _DRIVER, "number of attempts", required=True),
    Column("host", _TEXT, _LOOKED_UP, "machine on which the last attempt ran"),
    Column("started_at", _TIME, _DRIVER, "when it was started first, ISO 8601 in UTC"),
    Column("finished_at", _TIME, _DRIVER, "when it finished, ISO 8601 in UTC"),
    Column("dense_flash", _INTEGER, _DENSE, "flash of the unpruned network, bytes", unit=_BYTES),
    Column("dense_sram", _INTEGER, _DENSE, "SRAM of the unpruned network, bytes", unit=_BYTES),
    Column("dense_macs", _INTEGER, _DENSE, "multiply-accumulates of the unpruned network", unit=_OPERATIONS),
    Column("spec_hash", _TEXT, _DRIVER, "SHA-256 of the specification: equal for equal trials of any study",
           shown=_OPTUNA, length=64, required=True),
    Column("reused_from", _TEXT, _DRIVER, "STUDY#NUMBER of the equal trial whose result was reused", length=600),
    Column("widths", _OBJECT, _RESULT, "channels kept, by layer (a JSON object)"),
    Column("dense_widths", _OBJECT, _RESULT, "channels of the unpruned network, by layer (a JSON object)"),
    Column("artifacts", _OBJECT, _RESULT,
           "files by name: path in the artifact folder, sha256, bytes (a JSON object)"),
    Column("trajectory", _LIST, _RESULT,
           "state of the network at each report (a JSON list); in `open_study(...).trials()` and `show` only"),
)
GROUP_CATALOGUE = (
    Column("count", _INTEGER, _LOOKED_UP, "trials of the group"),
    Column("feasible", _INTEGER, _LOOKED_UP, "how many of them are within their budget"),
    Column("mean_accuracy", _NUMBER, _LOOKED_UP, "mean test accuracy of those", unit=_FRACTION),
    Column("best_accuracy", _NUMBER, _LOOKED_UP, "test accuracy of the one with the highest val_accuracy",
           unit=_FRACTION),
    Column("best_val_accuracy", _NUMBER, _LOOKED_UP, "its val_accuracy", unit=_FRACTION),
    Column("best_number", _INTEGER, _LOOKED_UP, "its number"),
    Column("best_flash", _INTEGER, _LOOKED_UP, "its flash, bytes", unit=_BYTES),
    Column("best_sram", _INTEGER, _LOOKED_UP, "its SRAM, bytes", unit=_BYTES),
    Column("best_macs", _INTEGER, _LOOKED_UP, "its multiply-accumulates", unit=_OPERATIONS),
)
"""Of ``query --group``, beside the columns grouped by."""
# fmt: on

PLAIN_KINDS = (_TEXT, _TIME, _INTEGER, _NUMBER, _TRUTH)


def names(
    kinds: Container[ColumnKind] = PLAIN_KINDS, parts: Container[Part] = tuple(Part), shown: Shown | None = None
) -> tuple[str, ...]:
    """Names of the columns of these kinds and parts, in order; with ``shown`` only of those shown there."""
    return tuple(
        column.name
        for column in CATALOGUE
        if column.kind in kinds and column.part in parts and (shown is None or shown in column.shown)
    )


HIGH_IS_GOOD = frozenset(column.name for column in CATALOGUE if column.better is Better.HIGH)
NO_DIRECTION = frozenset(column.name for column in CATALOGUE if column.better is None)


def unit_of(name: str) -> Unit | None:
    """The unit of a column, or of one named after it, such as ``first_accuracy`` or ``best_flash``."""
    found = [column for column in CATALOGUE if name == column.name or name.endswith(f"_{column.name}")]
    return max(found, key=lambda column: len(column.name)).unit if found else None


def used_columns(runtime: str) -> dict[str, str]:
    """By resource, the column of what a trial's model uses on a runtime (`mcu.terms.RuntimeName`)."""
    suffix = "_firmware" if runtime == RuntimeName.FIRMWARE else ""
    return {"flash": f"flash{suffix}", "sram": f"sram{suffix}", "macs": "macs"}
