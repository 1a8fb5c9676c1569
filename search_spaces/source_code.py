"""The source of a user's functions: a change of it makes other trials."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from search_spaces.choices import NetworkChoice, TrainingChoice
from search_spaces.factories import check_reference, folder_beside


def own_functions(network: NetworkChoice, training: TrainingChoice) -> tuple[tuple[str, ...], str | None]:
    """The user's functions that train a network, and the sweep's folder, as ``source_digest`` takes them."""
    named = (network.name if network.base else None, training.loss, training.score, training.loop)
    return tuple(filter(None, named)), network.base or training.base


def source_digest(references: Iterable[str], base: str | None) -> str | None:
    """Digest of the modules beside a sweep that some functions are in, and of those there that they import.

    Args:
        references: of the form ``module:function``; those of installed packages do not count.
        base: folder of the sweep.

    Returns:
        32 hexadecimal digits, or None if none of the functions lies beside the sweep.
    """
    left = [check_reference(reference)[0].partition(".")[0] for reference in references]
    tops: set[str] = set()
    files: dict[str, bytes] = {}
    while left:
        top = left.pop()
        folder = None if top in tops else folder_beside(base, top)
        tops.add(top)
        if folder is None:
            continue
        for path in [folder / f"{top}.py", *sorted((folder / top).rglob("*.py"))]:
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                files[name.as_posix()] = content = path.read_bytes()
                left += _imported(content, path)
    if not files:
        return None
    contents = [f"{name} {hashlib.sha256(files[name]).hexdigest()}" for name in sorted(files)]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:32]


def _imported(content: bytes, path: Path) -> Iterator[str]:
    """First names of the modules that a file imports; none if it is no Python, which its import will say."""
    try:
        tree = ast.parse(content, str(path))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
