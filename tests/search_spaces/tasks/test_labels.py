"""Labels as people write them."""

import numpy as np
import pytest

from mcu.errors import InputError
from search_spaces.tasks.arrays import from_arrays
from search_spaces.tasks.labels import read_labels

COUNT = 60
PLACES = np.arange(COUNT) % 3


@pytest.mark.parametrize(
    ("given", "classes", "note"),
    [
        (PLACES, ("0", "1", "2"), ""),
        (PLACES.astype(np.float64), ("0", "1", "2"), ""),
        (PLACES[:, None], ("0", "1", "2"), ""),
        (np.array(["ant", "bee", "cow"])[PLACES], ("ant", "bee", "cow"), ""),
        (np.array(["ant", "bee", "cow"], object)[PLACES], ("ant", "bee", "cow"), ""),
        (PLACES + 1, ("1", "2", "3"), "labels: 1 is class 0, 2 is class 1, 3 is class 2"),
        (np.array([2, 5, 9])[PLACES], ("2", "5", "9"), "labels: 2 is class 0, 5 is class 1, 9 is class 2"),
        (np.eye(3)[PLACES], ("0", "1", "2"), "one-hot over 3 classes"),
        (np.eye(3, dtype=bool)[PLACES], ("0", "1", "2"), "one-hot over 3 classes"),
    ],
)
def test_what_people_write_becomes_class_numbers(given, classes, note):
    labels = read_labels(given, "y")
    assert labels.y.tolist() == PLACES.tolist()
    assert (labels.classes, labels.note) == (classes, note)


@pytest.mark.parametrize(
    "names", [("a", "A", "b"), ("C", "C++", "C#"), ("None", "1", "10"), ("up-left", "up", "left"), ("-1", "+2", "1")]
)
def test_names_that_differ_in_more_than_spelling_are_classes(names):
    assert read_labels(np.array(names)[PLACES], "y").classes == tuple(sorted(names))


def test_whole_numbers_among_texts_have_no_fraction():
    mixed = np.array([1, 1.0, "idle"], object)[PLACES]
    assert read_labels(mixed, "y").classes == ("1", "idle")


def test_truth_values_and_signs_are_two_classes():
    assert read_labels(PLACES > 0, "y").classes == ("False", "True")
    assert read_labels(np.where(PLACES > 0, 1, -1), "y").note == "labels: -1 is class 0, 1 is class 1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PLACES - 1, "labels go from -1 to 1: those below 0 name no class"),
        (PLACES + 0.5, "holds 0.5, labels must be whole numbers"),
        (np.full(COUNT, np.nan), "holds nan"),
        (np.arange(COUNT), "has 60 different values among 60: they are not classes"),
        (np.ones((COUNT, 2)), r"row 0 is \[1.0, 1.0\]: a one-hot label has a single 1"),
        (np.eye(4)[PLACES], "no row has its 1 in column 3"),
        (PLACES.astype(complex), "is complex128, labels must be"),
        (np.array(["walk", "nan", "run"])[PLACES], "label 'nan' of 20 samples names no class"),
        (np.array(["walk", " ", "run"])[PLACES], "label ' ' of 20 samples names no class"),
        (np.array(["walk", "Walk", "run"])[PLACES], "labels 'Walk' and 'walk' differ in spelling alone"),
        (np.array(["walk", "walk.", "run"])[PLACES], "labels 'walk' and 'walk.' differ in spelling alone"),
        (np.array(["1", "1.0", "idle"])[PLACES], "labels '1' and '1.0' differ in spelling alone"),
        (np.array(["caf\u00e9", "cafe\u0301", "x"])[PLACES], "labels .* differ in spelling alone"),
    ],
)
def test_what_names_no_class_is_refused(given, message):
    with pytest.raises(InputError, match=f"^y: {message}"):
        read_labels(given, "y")


def test_arrays_of_every_split_are_read_by_one_mapping():
    x = np.random.default_rng(0).normal(size=(COUNT, 1, 4, 4))
    task = from_arrays({"x": x, "y": np.eye(3)[PLACES]}, "a.npz")
    assert task.notes == ("one-hot over 3 classes",)
    splits = {"x_train": x, "y_train": PLACES + 1, "x_test": x[:30] + 9, "y_test": PLACES[:30] + 1}
    task = from_arrays(splits, "a.npz")
    assert task.classes == ("1", "2", "3")
    assert task.y_test.tolist() == PLACES[:30].tolist()
    assert task.notes == ("labels: 1 is class 0, 2 is class 1, 3 is class 2",)
