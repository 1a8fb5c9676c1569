"""Every command of the tutorial, and of the pages about its study, runs as written, in the order of its page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pages import OF_ITS_STUDY, TUTORIAL, prepared, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which the tutorial was followed, its study in ``mcusweep.db``."""
    place = prepared(tmp_path_factory.mktemp("gestures"))
    run(TUTORIAL, place)
    return place


def test_a_newcomer_gets_from_an_npz_to_firmware_by_the_tutorial_alone(folder):
    for name in ("mcusweep.db", "winner.png", "report/index.html", "gesture_model/model.tflite"):
        assert (folder / name).stat().st_size > 0
    card = (folder / "gesture_model/MODEL_CARD.md").read_text()
    assert "gestures" in card
    if shutil.which("arm-none-eabi-gcc"):
        assert (folder / "gesture_model/firmware/firmware.elf").read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("page", OF_ITS_STUDY)
def test_commands_of_the_page_run_as_written(folder, page):
    assert run(page, folder) > 0
