"""Worst-case stack from the compiler's call graphs (``-fcallgraph-info=su``), or, for a compiler without them, from the
calls in a disassembled program: no recursion, no function pointers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

LIBRARY_FRAME = 32
"""Bytes charged for a library function the graphs know nothing of (memcpy, 64-bit product of the M0+)."""

RETURN_ADDRESS = 3
"""Bytes of the return address of an AVR's library function: at most, as smaller parts take two."""

_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_CALL = re.compile(r"\t(?:r?call|r?jmp)\t.*<([^+>]+)>$")
_PUSH = re.compile(r"\tpush\t")
_BYTES = re.compile(r"(\d+) bytes")


def stack_bytes(graphs: Iterable[Path], entry: str = "reset_handler") -> int:
    """Bytes of stack on the deepest path from ``entry`` through all graphs together.

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
    return _deepest(entry, frames, calls, ())


def stack_of_listing(listing: str, frames: Iterable[Path], entry: str = "main") -> int:
    """Bytes of stack on the deepest path from ``entry`` through an AVR's program.

    Args:
        listing: of ``objdump -d``.
        frames: what ``-fstack-usage`` wrote: sizes with the return address.
    """
    sizes: dict[str, int] = {}
    for path in frames:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            where, size, _ = line.split("\t")
            name = _plain(where)
            sizes[name] = max(int(size), sizes.get(name, 0))
    pushes: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    function = ""
    for line in listing.splitlines():
        if found := _FUNCTION.match(line):
            function = found[1]
        elif (found := _CALL.search(line)) and found[1] != function:
            calls.setdefault(function, set()).add(found[1])
        elif _PUSH.search(line):
            pushes[function] = pushes.get(function, 0) + 1
    called = {name for names in calls.values() for name in names}
    library = {name: RETURN_ADDRESS + pushes.get(name, 0) for name in called}
    return _deepest(entry, library | sizes, calls, ())


def _deepest(function: str, frames: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...]) -> int:
    if function in above:
        raise ValueError(f"recursion through {function}: no bound on the stack")
    below = (_deepest(callee, frames, calls, (*above, function)) for callee in calls.get(function, ()))
    return frames.get(function, LIBRARY_FRAME) + max(below, default=0)


def _plain(title: str) -> str:
    """A function's name without the file that local functions carry before it."""
    return title.rsplit(":", 1)[-1]
