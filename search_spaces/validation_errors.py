"""Pydantic's validation errors of a sweep file as one line each: location, given value, allowed values."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

SHOWN = 80
HIDDEN_KEYS = ("base", "searched")


def describe_validation_error(
    error: ValidationError, model: type[BaseModel], where: str, overridden: Collection[tuple[str, ...]] = ()
) -> str:
    """The first error as one line.

    Args:
        model: that was validated; its fields name what is allowed.
        where: the file.
        overridden: keys that were given on the command line instead.
    """
    findings = error.errors(include_url=False)
    finding, path = findings[0], _keys(findings[0])
    place = _place(path, where, overridden)
    if finding["type"] == "extra_forbidden":
        return f"{place}: {_unknown_key(path, model)}"
    if finding["type"] == "missing":
        return f"{place}: {_dotted(path)} is missing"
    reason = _alternatives([other for other in findings if _keys(other) == path])
    if path and isinstance(finding["input"], dict) and re.split(r"\W", reason)[0] in finding["input"]:
        return f"{place}: {_dotted(path)}.{reason}"  # a check of the whole table names one of its keys
    if reason.startswith(f"{_dotted(path)} ") and path:
        return f"{place}: {reason}"
    given = re.sub(r"(?<=://)([^:/@\s]*):\S*@", r"\1:***@", repr(finding["input"]))  # no password in a message
    if reason.startswith(given) or len(given) > SHOWN or isinstance(finding["input"], dict | BaseModel):
        return f"{place}: {_dotted(path)}: {reason}" if path else f"{place}: {reason}"
    return f"{place}: {_dotted(path)} = {given}: {reason}"


def _keys(finding: Any) -> list[str | int]:
    return [part for part in finding["loc"] if isinstance(part, int) or _is_key(part)]


def _alternatives(findings: list[Any]) -> str:
    """What each member of a union wants, as one sentence; that a number is infinite says all."""
    infinite = [finding for finding in findings if finding["type"] == "finite_number"]
    first, *others = dict.fromkeys(_reason(finding) for finding in infinite or findings)
    return " or ".join([first, *(other.removeprefix("must be ") for other in others)])


def _place(path: list[str | int], where: str, overridden: Collection[tuple[str, ...]]) -> str:
    """``--set`` when the mistake lies in an overridden key, both when it lies between that key and others."""
    if any(tuple(path[: len(keys)]) == keys for keys in overridden):
        return "--set"
    touched = [".".join(keys) for keys in overridden if keys[: len(path)] == tuple(path)]
    return f"{where} with --set {', '.join(sorted(touched))}" if touched else where


def _reason(finding: Any) -> str:
    original = finding.get("ctx", {}).get("error")
    text = str(original) if original is not None else str(finding["msg"])
    for wordy, plain in (("Input should be", "must be"), ("List should have", "must have"), ("String should", "must")):
        text = text.replace(wordy, plain)
    return " ".join(text.split())


def _is_key(part: str) -> bool:
    """Pydantic puts the alternatives of a union into the location; keys of the file look like names."""
    return not any(mark in part for mark in "[](),") and part not in _ALTERNATIVES


_ALTERNATIVES = {"Range", "Choices", "bool", "int", "float", "str", "literal"}


def _unknown_key(path: list[str | int], model: type[BaseModel]) -> str:
    owner = _model_at(path[:-1], model)
    allowed = [name for name in owner.model_fields if name not in HIDDEN_KEYS] if owner else []
    return f"unknown key {_dotted(path)}: {closest_key(str(path[-1]), allowed)}"


def closest_key(key: str, allowed: Collection[str]) -> str:
    """Allowed keys in place of an unknown one, closest first."""
    close = get_close_matches(key, allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed are {', '.join(allowed)}"


def _model_at(path: list[str | int], model: type[BaseModel]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return current
        current = _inner_model(current.model_fields[part].annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, list):
        for argument in get_args(annotation):
            found = None if argument is NoneType else _inner_model(argument)
            if found is not None:
                return found
    return None


def _dotted(path: list[str | int]) -> str:
    """``a.b[0]``; a key that would break the line, as a Python literal."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        key = part if part.isprintable() else repr(part)
        text += f".{key}" if text else key
    return text
