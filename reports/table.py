"""A small table of texts, written as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

from reports.csv_cells import safe_cell


@dataclass(frozen=True)
class Table:
    """A small table of texts with a title."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_csv(self) -> str:
        """Comma-separated, header first."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(safe_cell, self.header))
        writer.writerows(map(safe_cell, row) for row in self.rows)
        return stream.getvalue()

    def as_markdown(self) -> str:
        """A GitHub table."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "".join("| " + " | ".join(_escape(cell, _MARKDOWN) for cell in line) + " |\n" for line in lines)

    def as_latex(self) -> str:
        """A booktabs ``tabular``."""
        body = [" & ".join(_escape(cell, _LATEX) for cell in line) + r" \\" for line in self.rows]
        head = " & ".join(_escape(cell, _LATEX) for cell in self.header) + r" \\"
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}", ""])


_MARKDOWN = {"\\": "\\\\", "|": "\\|", "\n": " ", "<": "&lt;"}
_LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "×": r"$\times$", "\n": " "},
}


def _escape(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)


def percent(value: float | None, digits: int = 1) -> str:
    """``0.934`` as ``93.4 %``; a dash when missing."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"
