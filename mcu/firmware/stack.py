"""Worst-case stack from the compiler's call graphs (``-fcallgraph-info=su``), or, for a compiler without them, from the
calls in a disassembled program: no recursion, and no function pointers but those of a program's steps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from pathlib import Path

LIBRARY_FRAME = 32
"""Bytes charged for a library function the graphs know nothing of (memcpy, 64-bit product of the M0+)."""

Named = Mapping[str, Collection[str]]
"""By a function that calls what a table of steps names, the functions named."""

_POINTER = "__indirect_call"
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$", re.MULTILINE)
_CALL = re.compile(r"\t(?:r?call|r?jmp)\t.*<([^+>]+)>$")
_POINTER_CALL = re.compile(r"\te?icall\b")
_UNDEFINED = re.compile(r"\*UND\*\s+[0-9a-f]+ (\w+)$", re.MULTILINE)
_REFERENCES = re.compile(r"^RELOCATION RECORDS FOR \[\S*\b(program|strips)[_0-9]*_steps\]:\n((?:.+\n)*)", re.MULTILINE)
_PUSH = re.compile(r"\tpush\t")
_BYTES = re.compile(r"(\d+) bytes")


def stack_bytes(graphs: Iterable[Path], entry: str = "reset_handler", named: Named | None = None) -> int:
    """Bytes of stack on the deepest path from ``entry`` through all graphs together.

    Args:
        named: functions that the program's steps name, as ``named_functions``.

    Interrupt frames come on top; this program enables no interrupt.
    """
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for graph in graphs:
        text = graph.read_text(encoding="utf-8", errors="replace")
        for title, label in _NODE.findall(text):
            size = _BYTES.search(label)
            if size:
                frames[_plain(title)] = int(size[1])
        for caller, callee in _EDGE.findall(text):
            calls.setdefault(_plain(caller), set()).add(_plain(callee))
    return _deepest(entry, frames, _with_named(calls, named or {}), ())


def stack_of_listing(listing: str, frames: Iterable[Path], entry: str = "main", named: Named | None = None) -> int:
    """Bytes of stack on the deepest path from ``entry`` through an AVR's program.

    Args:
        listing: of ``objdump -d``.
        frames: what ``-fstack-usage`` wrote: sizes with the return address, which is all of the smallest.
        named: as in ``stack_bytes``.
    """
    sizes: dict[str, int] = {}
    for path in frames:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            where, size, _ = line.split("\t")
            sizes[_plain(where)] = max(int(size), sizes.get(_plain(where), 0))
    calls, pushes = _calls_and_pushes(listing)
    address = min(sizes.values(), default=0)
    library = {name: address + count for name, count in pushes.items()}
    return _deepest(entry, library | sizes, _with_named(calls, named or {}), ())


def called_functions(listing: str, entry: str) -> set[str]:
    """Every function that a function of an AVR's program calls, itself or through others."""
    calls, _ = _calls_and_pushes(listing)
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        new = calls.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def function_bytes(listing: str) -> dict[str, int]:
    """Bytes of every function of a program, up to the next."""
    starts = sorted((int(address, 16), name) for address, name in _FUNCTION.findall(listing))
    return {name: after - start for (start, name), (after, _) in pairwise(starts)}


def _calls_and_pushes(listing: str) -> tuple[dict[str, set[str]], dict[str, int]]:
    """The functions that each function calls, and how many registers it saves."""
    calls: dict[str, set[str]] = {}
    pushes: dict[str, int] = {}
    function = ""
    for line in listing.splitlines():
        if found := _FUNCTION.match(line):
            function = found[2]
            pushes[function] = 0
        elif (found := _CALL.search(line)) and found[1] != function:
            calls.setdefault(function, set()).add(found[1])
        elif _POINTER_CALL.search(line):
            calls.setdefault(function, set()).add(_POINTER)
        elif _PUSH.search(line):
            pushes[function] += 1
    return calls, pushes


def named_functions(symbols: str) -> Named:
    """The kernels that the steps of a model name.

    Args:
        symbols: of ``objdump -rt`` of its object file.
    """
    elsewhere = set(_UNDEFINED.findall(symbols))
    found: dict[str, set[str]] = {}
    for section, references in _REFERENCES.findall(symbols):
        caller = {"program": "run_program", "strips": "strips"}[section]
        found.setdefault(caller, set()).update(elsewhere.intersection(references.split()))
    return found


def _with_named(calls: dict[str, set[str]], named: Named) -> dict[str, set[str]]:
    """Calls with those through the pointer of a step as calls of every function that the table names."""
    return {
        caller: (callees - {_POINTER}) | set(named[caller]) if _POINTER in callees and caller in named else callees
        for caller, callees in calls.items()
    }


def _deepest(function: str, frames: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...]) -> int:
    if function in above:
        raise ValueError(f"recursion through {function}: no bound on the stack")
    if function == _POINTER:
        raise ValueError(f"{above[-1]} calls a function through a pointer: no bound on the stack")
    below = (_deepest(callee, frames, calls, (*above, function)) for callee in calls.get(function, ()))
    return frames.get(function, LIBRARY_FRAME) + max(below, default=0)


def _plain(title: str) -> str:
    """A function's name without the file that local functions carry before it."""
    return title.rsplit(":", 1)[-1]
