"""Draws docs/images/rooms.svg, the rooms of the product and what each may use, from the imports of the code.

A room is a folder of a package, or a file that lies in the package itself. ``--check`` changes nothing and fails if
the picture is not what would be drawn. tests/test_rooms.py asks the functions of this file whether the order holds.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
PICTURE = HOUSE / "docs" / "images" / "rooms.svg"
ALLOWED: dict[str, tuple[str, ...]] = {
    "mcusweep": ("orchestrator", "pruning", "reports", "search_spaces", "mcu"),
    "orchestrator": ("pruning", "reports", "search_spaces", "mcu"),
    "pruning": ("mcu",),
    "search_spaces": ("mcu",),
    "reports": ("mcu",),
    "mcu": (),
}
"""What each package may import; nothing else."""

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the product by its name."""
    found = {}
    for package in ALLOWED:
        for path in sorted((HOUSE / package).rglob("*.py")):
            parts = path.relative_to(HOUSE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> Graph:
    """The modules of the product that each imports, at any depth: in functions and for type checking as well."""
    known = modules()
    return {name: set(_imported(ast.parse(path.read_text("utf-8")), known)) for name, path in known.items()}


def _imported(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in inside]
        yield from (name for name in names if name in known)


def room_of(module: str) -> str:
    """The room a module lies in: ``mcu.tracing`` for ``mcu.tracing.trace``, ``mcu.units`` for itself."""
    return ".".join(module.split(".")[:2])


def rooms() -> Graph:
    """The rooms that each room uses, those of other packages among them."""
    found: Graph = {}
    for module, used in imports().items():
        here = room_of(module)
        found.setdefault(here, set()).update(room_of(other) for other in used)
        found[here].discard(here)
    return found


def circle(graph: Graph) -> list[str]:
    """Nodes of a graph that lie on circles, or lead to nothing but circles; empty where there is none."""
    left = dict(graph)
    while free := [node for node, used in left.items() if not used & left.keys()]:
        for node in free:
            del left[node]
    return sorted(left)


def floors(package: str) -> list[list[str]]:
    """A package's rooms, the lowest floor last: a room uses rooms of floors below its own only."""
    every = rooms()
    left = {room: used for room, used in every.items() if room.startswith(f"{package}.")}
    found: list[list[str]] = []
    while left:
        free = sorted(room for room, used in left.items() if not used & left.keys())
        if not free:
            raise ValueError(f"rooms in a circle: {', '.join(sorted(left))}")
        found.insert(0, free)
        for room in free:
            del left[room]
    return found


WIDTH, ROW, GAP, HEAD, PAD, CHARACTER = 760, 26, 12, 24, 10, 6.4
_STACK = (("mcusweep",), ("orchestrator",), ("pruning", "search_spaces", "reports"), ("mcu",))
_LOOK = """<style>
text { font: 11px ui-sans-serif, system-ui, sans-serif; fill: #1f2933 } .name { font-weight: 700; font-size: 12px }
.house { fill: #f4f6f8; stroke: #9aa5b1 } .room { fill: #ffffff; stroke: #9aa5b1 } .file { fill: none }
</style>"""


def picture() -> str:
    """The packages, one above the other, with their rooms floor by floor, as SVG."""
    top, drawn = GAP, []
    for side_by_side in _STACK:
        width = (WIDTH - GAP * (len(side_by_side) + 1)) / len(side_by_side)
        rows = {package: _rows(package, width - 2 * PAD) for package in side_by_side}
        height = HEAD + PAD + ROW * max(map(len, rows.values()))
        for at, (package, lines) in enumerate(rows.items()):
            left = GAP + at * (width + GAP)
            drawn.append(f'<rect class="house" x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="6"/>')
            drawn.append(f'<text class="name" x="{left + PAD:.0f}" y="{top + 17}">{package}</text>')
            drawn += [_row(line, left + PAD, top + HEAD + ROW * index) for index, line in enumerate(lines)]
        top += height + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    title = "Packages and their rooms; each uses only what lies below it"
    background = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<title>{title}</title>", _LOOK]
    return "\n".join([*lines, background, *drawn, "</svg>", ""])


def _width(room: str) -> float:
    return CHARACTER * len(room.partition(".")[2]) + 14


def _rows(package: str, width: float) -> list[list[str]]:
    """The floors of a package as rows that are not wider than ``width``."""
    rows: list[list[str]] = []
    for floor in floors(package):
        rows.append([])
        for room in floor:
            if rows[-1] and sum(_width(other) + 6 for other in [*rows[-1], room]) > width:
                rows.append([])
            rows[-1].append(room)
    return rows


def _row(rooms_of_it: list[str], left: float, top: float) -> str:
    drawn = []
    for room in rooms_of_it:
        width = _width(room)
        kind = "room" if (HOUSE / room.replace(".", "/")).is_dir() else "file"
        drawn.append(f'<rect class="{kind}" x="{left:.0f}" y="{top}" width="{width:.0f}" height="20" rx="4"/>')
        drawn.append(f'<text x="{left + 7:.0f}" y="{top + 14}">{escape(room.partition(".")[2])}</text>')
        left += width + 6
    return "".join(drawn)


def main() -> int:
    """Write the picture, or check it."""
    drawn = picture()
    if "--check" not in sys.argv:
        PICTURE.write_text(drawn, "utf-8")
    elif PICTURE.read_text("utf-8") != drawn:
        print(f"{PICTURE.relative_to(HOUSE)} is out of date: python docs/make_rooms.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
