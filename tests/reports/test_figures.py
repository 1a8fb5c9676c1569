"""What holds for every figure: nothing that is written on it runs into something else."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reports.comparison.comparison import compare_methods
from reports.figures.style import Style
from reports.sample import sample_trials
from reports.study import StudyInfo
from reports.study_page import gallery
from reports.trials import tidy
from reports.winners import winners


@pytest.fixture(scope="module", params=list(Style))
def figures(request) -> list[Figure]:
    """Every figure of a study whose budgets bound all three resources, in one style."""
    trials = sample_trials(90)
    trials["budget_macs"] = 1.2 * trials["macs"].max()
    table, drawn = tidy(trials), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "encode", lambda figure, kinds: drawn.append(figure) or {})
        gallery.draw_all(table, StudyInfo(name="all"), winners(table), compare_methods(table), request.param)
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
