"""Text of any script in figures: with an installed font that has the characters, else escaped."""

from __future__ import annotations

from functools import cache

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

_NOT_LETTERS = ("Last Resort",)
"""Fonts that have a box for every character there is."""


def make_drawable(figure: Figure) -> bool:
    """Set a fallback font for texts with characters that the figure's font lacks; escape what no installed font has.

    Returns:
        Whether anything changed.
    """
    texts = figure.findobj(Text)
    lacking = {char for text in texts for char in text.get_text() if not _in_figure_font(char)}
    if not lacking:
        return False
    families = {char: _family_of(char) for char in sorted(lacking)}
    found = sorted({family for family in families.values() if family is not None})
    escapes = str.maketrans({char: _escaped(char) for char, family in families.items() if family is None})
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if lacking & set("".join(labels)):
                axis.set_ticklabels([label.translate(escapes) for label in labels])
    for text in texts:
        assert isinstance(text, Text)
        text.set_fontfamily([*mpl.rcParams["font.family"], *found])
        text.set_text(text.get_text().translate(escapes))
    return True


def _in_figure_font(char: str) -> bool:
    return char.isspace() or _has(findfont(FontProperties()), char)


@cache
def _has(font: str, char: str) -> bool:
    return ord(char) in get_font(font).get_charmap()


@cache
def _family_of(char: str) -> str | None:
    """The family of an installed font that has the character."""
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.style != "normal", entry.name)):
        if not entry.name.startswith(_NOT_LETTERS) and _has(entry.fname, char):
            return entry.name
    return None


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
