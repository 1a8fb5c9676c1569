"""Style of figures: colours by method, font sizes for screen and paper, reproducible output files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.figures.lettering import make_drawable

INK = "#1c2128"  # text and axes; the page replaces these three by its theme
SOFT = "#656d76"
GRID = "#dfe3e8"
BAD = "#b3261e"  # failures and broken bounds, in no palette colour

# Okabe and Ito's colours, told apart with every common kind of colour blindness; yellow is left out on white
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31", "#5c6670")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")


class Style(StrEnum):
    """Target medium of a figure."""

    SCREEN = "screen"
    PAPER = "paper"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The files made of each figure; PDF for papers only, as it takes a third of the time."""
        return ("png", "svg", "pdf") if self is Style.PAPER else ("png", "svg")


class Look:
    """Colour and marker per method, the same in every figure of a study."""

    def __init__(self, methods: Iterable[str]) -> None:
        self.order = list(methods)
        self._at = {name: position for position, name in enumerate(self.order)}

    def colour(self, method: str) -> str:
        """Hex colour of a method."""
        return PALETTE[self._at.get(method, len(PALETTE) - 1) % len(PALETTE)]

    def marker(self, method: str) -> str:
        """Marker of a method; it also changes when the colours repeat."""
        at = self._at.get(method, 0)
        return _MARKERS[(at + at // len(PALETTE)) % len(_MARKERS)]


def rc_params(style: Style) -> dict[str, Any]:
    """Matplotlib settings of a style: 10 pt sans-serif on screen, 8 pt in a paper's column."""
    size = 10.0 if style is Style.SCREEN else 8.0
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
        "font.size": size,
        "axes.titlesize": size + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": size,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "legend.fontsize": size - 1,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": SOFT,
        "axes.titlecolor": INK,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.minor.size": 0,
        "figure.facecolor": "white",
        "axes.facecolor": "none",
        "savefig.facecolor": "white",
        "svg.fonttype": "none",
        "svg.hashsalt": "mcusweep",
        "pdf.fonttype": 42,
        "path.simplify": True,
        "text.parse_math": False,
    }


@contextmanager
def styled(style: Style) -> Iterator[None]:
    """Matplotlib settings of a style while a figure is drawn and saved; global settings stay as they were."""
    with mpl.rc_context(cast(Any, rc_params(style))):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, size in inches, independent of pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encode(figure: Figure, kinds: Sequence[str], dpi: int = 200) -> dict[str, bytes]:
    """The figure as bytes of each kind (``png``, ``svg``, ``pdf``); equal figures give equal bytes (no dates).

    The layout is computed once and then kept: it takes longer than drawing. An SVG keeps its texts, because the viewer
    has fonts; for the other kinds see :func:`make_drawable`.
    """
    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        engine = figure.get_layout_engine()
        figure.set_layout_engine(None)
        laid_out = engine is None
        for kind in sorted(kinds, key=lambda kind: kind != "svg"):
            changed = kind != "svg" and make_drawable(figure)
            if engine is not None and (changed or not laid_out):
                engine.execute(figure)
                laid_out = True
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, dpi=dpi, metadata=_NO_DATES[kind])
            found[kind] = stream.getvalue()
    return {kind: found[kind] for kind in kinds}


_NO_DATES: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def rasterise(points: int) -> bool:
    """Whether this many marks should be rasterised in a vector file."""
    return points > 1500


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for the figure, under its axes."""
    columns = len(labels) if len(labels) <= 7 else -(-len(labels) // 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.6, handletextpad=0.5)


def plain_note(axes: Axes, text: str) -> None:
    """A small grey note in the lower right corner of the axes."""
    axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize="x-small", color=SOFT)
