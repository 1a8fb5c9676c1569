"""Writes docs/reference/*.md from the code: python docs/make_reference.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mcu.devices import catalogue
from mcu.tracing.refusals import SPOKEN
from mcu.tracing.vocabulary import VOCABULARY
from orchestrator.cli import main as cli
from orchestrator.queries import where_grammar
from pruning.catalogue import BUILT_IN
from reports.columns import CATALOGUE, GROUP_CATALOGUE, PLAIN_KINDS
from search_spaces.hyperparameters import FORMS, Choices, Range
from search_spaces.sweep import NOT_IN_A_FILE, SweepConfig
from search_spaces.validation_errors import HIDDEN_KEYS

FOLDER = Path(__file__).resolve().parent / "reference"
SPECIAL = {
    ("budgets", "flash"): "two sizes, low and high",
    ("budgets", "sram"): "two sizes, low and high",
    ("budgets", "macs"): "two counts, low and high",
    ("budgets", "list"): "list of {name, flash, sram, macs}",
    ("methods", "trials"): "{method = number}",
}
NOTE = "<!-- made by docs/make_reference.py; do not edit -->\n\n"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n" for line in lines
    )


def sweep_file() -> str:
    """The keys of the sweep file, from the models that read it."""
    schema = SweepConfig.model_json_schema()
    parts = [
        f"{NOTE}# The sweep file\n\nTOML. Required are `[sweep].name`, `[task].name`, `[network].name` (or `names`) "
        "and one form of `[budgets]`. An unknown key is refused. Every key can be given on the command line as "
        '`--set section.key=value`. Sizes are numbers of bytes or texts such as `"64KB"` (65,536) and `"64kB"` '
        '(64,000), counts numbers or texts such as `"4.4M"`.\n'
    ]
    for section, entry in schema["properties"].items():
        if section in NOT_IN_A_FILE:
            continue
        body = schema["$defs"].get(_reference(entry), entry)
        if section == "hyperparameters":
            parts.append(f"\n## [hyperparameters]\n\n{_hyperparameters()}")
            continue
        about = _sentence(body.get("description", ""))
        rows = [
            (
                f"`{name}`",
                SPECIAL.get((section, name)) or _type(field, schema),
                _default(section, name, field, name in body.get("required", ())),
            )
            for name, field in body["properties"].items()
            if name not in HIDDEN_KEYS
        ]
        parts.append(f"\n## [{section}]\n\n{about}\n\n{table(('key', 'value', 'default'), rows)}")
    return "".join(parts)


def _reference(entry: dict[str, Any]) -> str:
    return str(entry.get("$ref", "")).rpartition("/")[2]


def _sentence(text: str) -> str:
    """A docstring as running text; its list of attributes as a list."""
    head, mark, attributes = text.replace("``", "`").partition("Attributes:")
    lines = [" ".join(head.split())]
    for line in attributes.splitlines() if mark else ():
        name, colon, meaning = line.strip().partition(": ")
        if colon and name.replace(", ", "").isidentifier():
            lines.append("" if name in HIDDEN_KEYS else f"- `{name}`: {meaning}")
        elif line.strip() and lines[1:] and lines[-1]:
            lines[-1] += " " + line.strip()
    lines[1:] = filter(None, lines[1:])
    return lines[0] + ("\n\n" + "\n".join(lines[1:]) if lines[1:] else "")


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part, schema) for part in field["anyOf"] if part.get("type") != "null"))
    if "$ref" in field:
        inner = schema["$defs"][_reference(field)]
        if "enum" in inner:
            return _type({"enum": inner["enum"]}, schema)
        return "{" + ", ".join(inner["properties"]) + "}"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field['items'], schema)}"
    names = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "object": "table",
    }
    low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum", field.get("exclusiveMaximum"))
    span = f", at least {low}" if high is None else f", {low} to {high:,}"
    span = "" if low is None else span
    return names.get(field.get("type", ""), "value") + span


def _default(section: str, name: str, field: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    model = SweepConfig.model_fields[section].annotation
    value = field.get("default", model.model_fields[name].get_default(call_default_factory=True))  # type: ignore[union-attr]
    return (
        ""
        if value is None or value == {} or str(value) == "PydanticUndefined"
        else f"`{value}`".replace("'", '"').replace("True", "true")
    )


def _hyperparameters() -> str:
    rows = [(f"`{entry.name}`", entry.summary, ", ".join(f"`{name}`" for name in entry.hyperparameters or ("any",)))
            for entry in BUILT_IN]  # fmt: skip
    keys = (
        ", ".join(f"`{name}`" for name in Range.model_fields),
        ", ".join(f"`{name}`" for name in Choices.model_fields),
    )
    return (
        f"By name: {FORMS}. A range has the keys {keys[0]}, a choice {keys[1]}. A hyperparameter that no method of the "
        f"sweep accepts is refused.\n\n{table(('method', 'summary', 'hyperparameters'), rows)}"
    )


def columns() -> str:
    """The columns of queries and of the Python frame."""
    rows = [(f"`{column.name}`", str(column.kind), column.meaning) for column in CATALOGUE]
    plain = sum(column.kind in PLAIN_KINDS for column in CATALOGUE)
    rows.insert(plain, ("`param.NAME`", "as given", "the hyperparameter NAME; null where the method has none"))
    grouped = [(f"`{column.name}`", column.meaning) for column in GROUP_CATALOGUE]
    return (
        f"{NOTE}# Columns\n\nOf `mcusweep query`, `trials.csv`, `best --format json` and `open_study(...).trials()`. "
        "In JSON a missing value is `null`; sizes are whole numbers of bytes.\n\n"
        f"{table(('column', 'type', 'meaning'), rows)}\n"
        "`widths`, `dense_widths` and `artifacts` are shown only if named in `--columns`; filters cannot use them.\n\n"
        f"## Of groups\n\n`--group` gives, beside the columns grouped by:\n\n{table(('column', 'meaning'), grouped)}\n"
        f"## The filter\n\n```text\n{_grammar()}\n```\n"
    )


def _grammar() -> str:
    return "\n".join(line.removeprefix("    ") for line in (where_grammar.__doc__ or "").strip().splitlines()[2:])


def commands() -> str:
    """Every command with its arguments and options."""
    group = cli.command_group()
    parts = [
        f"{NOTE}# Commands\n\nExit status: 0 done, 1 the run or a trial failed, or the result could not be written, "
        "2 invalid usage or\ninput (one line on stderr), 130 interrupted. Results go to stdout, progress to stderr.\n"
    ]
    for name, command in sorted(group.commands.items()):
        inside = getattr(command, "commands", None)
        parts += (
            [_command(f"{name} {inner}", each) for inner, each in inside.items()]
            if inside
            else [_command(name, command)]
        )
    return "".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    usage = " ".join([f"mcusweep {name}", *(part.metavar or part.name.upper() for part in arguments), "[options]"])
    rows = []
    for part in command.params:
        if part.name == "help":
            continue
        title = (
            part.metavar or part.name.upper() if part in arguments else " ".join([*part.opts, _metavar(part)]).strip()
        )
        default = (
            "" if part.default in (None, False, (), []) or callable(part.default) else f" Default: `{part.default}`."
        )
        rows.append((f"`{title}`", (part.help or "").replace("*", "\\*") + default))
    return f"\n## {name}\n\n`{usage}`\n\n{command.help}\n\n{table(('option', 'meaning'), rows)}"


def _metavar(part: Any) -> str:
    return "" if getattr(part, "is_flag", False) else part.metavar or ""


def operators() -> str:
    """The operators that a network may use, and those that are refused by name."""
    rows = [(word.written, word.becomes) for word in VOCABULARY]
    refused = [(said, instead) for said, instead in dict.fromkeys(SPOKEN.values())]
    return (
        f"{NOTE}# Operators\n\nThe operators that a network may use. Modules, functions, methods and in-place forms "
        "are equivalent: networks are\ncaptured by `torch.export`, in evaluation mode. The result is compared with "
        "the network before\ntraining. `mcusweep check` shows the cost of a network, or the line that is refused. "
        "A network may have [several\ninputs and outputs](../how-to/own_loop.md#several-inputs-and-outputs).\n\n"
        f"{table(('written', 'becomes'), rows)}\n## Refused by name\n\n{table(('refused', 'instead'), refused)}"
    )


def devices() -> str:
    """The device catalogue."""
    rows = [
        (f"`{part.name}`", part.vendor, part.core, f"{part.clock_hz / 1e6:g} MHz", f"{part.flash:,}", f"{part.sram:,}",
         f"{part.budget().flash:,}", f"{part.budget().sram:,}", part.source)
        for part in catalogue()
    ]  # fmt: skip
    header = ("name", "vendor", "core", "clock", "flash", "SRAM", "flash for a model", "SRAM for a model", "source")
    about = "Bytes. What is left for a model is what runtime and application do not need."
    return f"{NOTE}# Devices\n\n{about}\n\n{table(header, rows)}"


PAGES = {
    "sweep_file": sweep_file,
    "columns": columns,
    "commands": commands,
    "devices": devices,
    "operators": operators,
}


def main() -> int:
    """Write the pages, or with --check say which are not up to date."""
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / f"{name}.md", make()
        if "--check" in sys.argv:
            stale += [] if path.exists() and path.read_text("utf-8") == text else [path.name]
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    if stale:
        print(f"not up to date: {', '.join(stale)}; run python docs/make_reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
