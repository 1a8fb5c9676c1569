"""What holds for every figure: nothing that is written on it runs into something else."""

from __future__ import annotations

import itertools
import warnings
from xml.sax.saxutils import escape

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from reports.comparison.comparison import compare_methods
from reports.figures import lettering
from reports.figures.lettering import _family_of
from reports.figures.objectives import objectives_figure, slices_figure
from reports.figures.progress import attainment_figure, hypervolume_figure
from reports.figures.style import Look, Style, encode, legend_below, new_figure, styled
from reports.study import StudyInfo
from reports.study_page import gallery
from reports.trials import methods, tidy
from reports.winners import winners
from sample_trials import sample_trials

SCORES = ("val_accuracy", "accuracy", "float_accuracy")


@pytest.fixture(scope="module", params=[(Style.SCREEN, None), (Style.PAPER, None), (Style.SCREEN, 40.0)])
def figures(request) -> list[Figure]:
    """Every figure of a study whose budgets bound all three resources, in one style; or judged by an error."""
    style, error = request.param
    trials = sample_trials(90)
    trials["budget_macs"] = 1.2 * trials["macs"].max()
    if error:
        trials = trials.assign(metric="mae", **{name: error * (trials[name] - 1) for name in SCORES})
    table, drawn = tidy(trials), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "encode", lambda figure, kinds: drawn.append(figure) or {})
        gallery.draw_all(table, StudyInfo(name="all"), winners(table), compare_methods(table), style)
    return drawn


def written_on(figure: Figure) -> list[Text]:
    """Titles and labels: of the figure, and of its axes."""
    of_axes = itertools.chain.from_iterable((a.title, a._left_title, a.xaxis.label, a.yaxis.label) for a in figure.axes)
    return [text for text in (*figure.texts, *of_axes) if text.get_text() and text.get_visible()]


def test_titles_and_labels_keep_apart_and_on_the_page(figures):
    assert len(figures) > 10
    for figure in figures:
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in written_on(figure)]
        for (first, one), (second, other) in itertools.combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1)), f"{first!r} runs into {second!r}"
        for text, box in boxes:
            assert figure.bbox.padded(1).containsx(box.x0), text
            assert figure.bbox.padded(1).containsx(box.x1), text


@pytest.mark.parametrize(("times", "plus"), [(40.0, -40.0), (1e-6, -1e-6), (30.0, 0.0)])
def test_scores_of_any_unit_are_drawn_like_the_accuracies_they_are_made_of(times, plus):
    plain = sample_trials(60).assign(metric="own:score")
    other = plain.assign(**{name: times * plain[name] + plus for name in SCORES})
    for make in (hypervolume_figure, attainment_figure, slices_figure, objectives_figure):
        pairs = []
        with styled(Style.SCREEN):
            for trials in (plain, other):
                table = tidy(trials)
                figure = make(table, Look(methods(table)))
                pairs.append([_drawn(axes) for axes in figure.axes if axes.get_visible()])
        assert all(places for places in pairs[0]), make
        for one, another in zip(*pairs, strict=True):
            assert np.allclose(one, another, atol=0.02, equal_nan=True), make


def _drawn(axes) -> list[float]:
    """Heights of what is drawn, ticks apart, as parts of the axes."""
    low, high = axes.get_ylim()
    heights = [np.asarray(line.get_ydata(), float) for line in axes.lines if len(line.get_ydata()) > 2]
    dots = [points for points in axes.collections if isinstance(points, PathCollection)]
    heights += [np.asarray(points.get_offsets(), float)[:, 1] for points in dots]
    several = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    heights += [np.asarray(segment, float)[:, 1] for lines in several for segment in lines.get_segments()]
    found = (np.concatenate([np.empty(0), *heights]) - low) / (high - low)
    return np.clip(found, -0.1, 1.1).tolist()


HOSTILE = ("layer $\\frac$ x", "cost $5_in and $6_out", "_hidden", "\u7f51\u7edc", "\ufb01ne \U0001f600")


def drawn_texts(figure: Figure) -> list[str]:
    ticks = [label for axes in figure.axes for label in axes.get_xticklabels()]
    return [text.get_text() for text in (*figure.legends[0].texts, *ticks)]


@pytest.mark.parametrize("kinds", [("png", "svg"), ("pdf",)])
def test_names_of_others_are_drawn_as_they_are_written(kinds):
    with styled(Style.SCREEN), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = new_figure(6, 4)
        figure.add_subplot().set_xticks(range(len(HOSTILE)), HOSTILE)
        legend_below(figure, [Line2D([], []) for _ in HOSTILE], HOSTILE)
        drawn = encode(figure, kinds)
        written = drawn_texts(figure)
    if "svg" in kinds:
        assert all(escape(text) in drawn["svg"].decode() for text in HOSTILE)
    has_chinese = _family_of("\u7f51") is not None
    for text in HOSTILE if has_chinese else HOSTILE[:3]:
        assert written.count(text) == 2
    assert has_chinese or written.count("\\u7f51\\u7edc") == 2


def test_a_font_that_has_the_characters_is_taken(monkeypatch):
    monkeypatch.setattr(lettering, "_in_figure_font", lambda char: char != "\u222b")  # DejaVu has all that is shipped
    with styled(Style.SCREEN):
        figure = new_figure(4, 3)
        title = figure.suptitle("\u222b f")
        encode(figure, ("png",))
    assert title.get_text() == "\u222b f"
    assert len(title.get_fontfamily()) == 2
