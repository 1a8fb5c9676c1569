"""All figures of a study, drawn once and kept as bytes: PNG and SVG, for papers also PDF."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from mcu.budget import RESOURCES, amount
from reports.comparison.comparison import Cell
from reports.figures.accuracy import accuracy_figure
from reports.figures.methods import methods_figure, outcomes_figure, use_figure
from reports.figures.objectives import objectives_figure, slices_figure
from reports.figures.progress import attainment_figure, hypervolume_figure
from reports.figures.style import BAD, GRID, INK, PALETTE, SOFT, Look, Style, encode, styled
from reports.figures.timeline import timeline_figure
from reports.figures.trajectories import trajectory_figure, widths_figure
from reports.metric import metric_title
from reports.study import StudyInfo
from reports.trials import NUMBERS, RESOURCE_TITLES, TIMES, budgets, methods
from reports.winners import Winner

CAPTIONS = {
    **{
        f"accuracy_{name}": f"int8 test accuracy against {RESOURCE_TITLES[name]}. Filled: within its budget; "
        "hollow: over it. Step lines: the model one would choose by validation accuracy as the limit grows."
        for name in RESOURCES
    },
    "methods": "Test accuracy at each budget. Small dots: feasible trials; bars: their mean with a 95 % bootstrap "
    "interval; large markers: the trial with the best validation accuracy.",
    "objectives": "All four objectives at once: a line per feasible model, strong where no other model is at least as "
    "good in everything. Up is better on every axis.",
    "slices": "Validation accuracy over each hyperparameter. Line: median over eighths of the trials.",
    "budget_use": "Measured use as a share of each bound. The bar is the median; past the red line a budget is broken.",
    "hypervolume": "Hypervolume of feasible models over finished trials and over CPU time: the mean, over budgets "
    "drawn log-uniformly from the box of all measurements, of the accuracy of the best model that fits. "
    "Budgets below all of a method's models count as 0 for it, so one that uses its budgets whole has less.",
    "attainment": "Accuracy of the best model within a limit: median over seeds, shaded from worst to best.",
    "trajectories": "Training of the winners. Above: flash, SRAM and MACs as multiples of their bounds (dotted: of the "
    "dense network, where there is no bound). Below: validation accuracy.",
    "widths": "Channels the winners kept, layer by layer, shaded by their share of the dense network.",
    "timeline": "Which worker ran which trial when.",
    "outcomes": "How the trials of each method ended. Nothing that ran is left out.",
}


@dataclass(frozen=True)
class Drawing:
    """One figure: its name, caption and bytes by kind; ``themed`` ones follow the page's light or dark colours."""

    name: str
    caption: str
    files: dict[str, bytes]
    themed: bool = True

    def inline_svg(self) -> str:
        """The SVG for embedding in a page: ids made unique, colours left to the page's theme."""
        text = self.files["svg"].decode()
        text = text[text.index("<svg") :]
        text = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', text)
        text = re.sub(r'(xlink:href="#|url\(#)([^")]+)', rf"\1{self.name}-\2", text)
        for colour, variable in _THEME.items() if self.themed else ():
            text = text.replace(colour, f"var(--{variable})")
        return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


_NEEDED = {*NUMBERS, *TIMES, "method", "device", "runtime", "state", "number", "seed", "metric"}
_NEEDED |= {"budget", "known", "feasible", "finished"}
_THEME = {
    **{colour: f"c{position}" for position, colour in enumerate(PALETTE)},
    **{INK: "ink", SOFT: "soft", GRID: "grid", BAD: "bad", "#ffffff": "card"},
}


def budget_limits(table: pd.DataFrame, resource: str) -> dict[str, float]:
    """Limit of each budget on one resource: by device name, else by the bound itself."""
    rows = budgets(table)
    found: dict[str, float] = {}
    for device, bound in zip(rows["device"], rows[f"budget_{resource}"], strict=True):
        if bound > 0:
            found[device or amount(resource, bound)] = float(bound)
    return found


def draw_all(
    table: pd.DataFrame, study: StudyInfo, winners: list[Winner], cells: list[Cell], style: Style
) -> dict[str, Drawing]:
    """All figures by name, except those without data."""
    look = Look(methods(table))
    whole = table
    table = whole[[name for name in whole if name in _NEEDED]]  # filtering a narrow table is many times faster
    makers: dict[str, Callable[[], Figure | None]] = {
        f"accuracy_{name}": _accuracy_maker(table, name, look) for name in RESOURCES
    } | {
        "methods": lambda: methods_figure(table[~table["number"].isin(study.repeats)], cells, look),
        "objectives": lambda: objectives_figure(table, look),
        "budget_use": lambda: use_figure(table, look),
        "slices": lambda: slices_figure(whole, look),
        "hypervolume": lambda: hypervolume_figure(table, look),
        "attainment": lambda: attainment_figure(table, look),
        "trajectories": lambda: trajectory_figure(whole, winners, study.reports),
        "widths": lambda: widths_figure(whole, winners),
        "timeline": lambda: timeline_figure(table, study.attempts, look),
        "outcomes": lambda: outcomes_figure(table, look),
    }
    drawn = {}
    needs_models = {"methods", *(f"accuracy_{name}" for name in RESOURCES)}
    for name, make in makers.items():
        if not look.order or (name in needs_models and not table["known"].any()):
            continue
        with styled(style):
            figure = make()
            if figure is not None:
                files = encode(figure, style.kinds)
                drawn[name] = Drawing(name, _caption(name, metric_title(whole)), files, themed=name != "widths")
    return drawn


def _caption(name: str, metric: str) -> str:
    """What a figure shows, in the words of the study's metric."""
    return CAPTIONS[name].replace("accuracy", metric).replace("Accuracy", f"{metric[0].upper()}{metric[1:]}")


def _accuracy_maker(table: pd.DataFrame, resource: str, look: Look) -> Callable[[], Figure]:
    return lambda: accuracy_figure(table, resource, budget_limits(table, resource), look)
