"""Tables of sensors as people have them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task

ACTIVITIES = ("sit", "walk", "run")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))


def rows(activity: int, count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([activity, seed])
    time = np.arange(count) / 50
    wave = np.sin(2 * np.pi * (1 + 3 * activity) * time)
    return pd.DataFrame(
        {
            "time": time,
            "ax": wave + rng.normal(0, 0.1, count),
            "ay": -wave + rng.normal(0, 0.1, count),
            "person": f"p{seed}",
            "activity": ACTIVITIES[activity],
        }
    )


def recorded(people=5, count=200) -> pd.DataFrame:
    return pd.concat([rows(a, count, seed) for seed in range(people) for a in range(3)], ignore_index=True)


def table_task(place, **options):
    key = "data" if place.is_dir() else "path"
    return load_task(TaskChoice(name="table", **{key: str(place)}, options=options))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_windows_of_columns_by_groups(tmp_path, suffix):
    frame = recorded()
    file = tmp_path / f"t.{suffix}"
    frame.to_csv(file, index=False) if suffix == "csv" else frame.to_parquet(file)
    task = table_task(file, group="person", window=50, stride=25)
    assert task.input_shape == (2, 50, 1)
    assert task.classes == ("run", "sit", "walk")
    assert task.counts() == {"train": [21] * 3, "val": [7] * 3, "test": [7] * 3}
    (who,) = set(task.groups_test)
    mine = frame[(frame.person == who) & (frame.activity == "run")][["ax", "ay"]].to_numpy(np.float32)
    wanted = {mine[start : start + 50].T.tobytes() for start in range(0, 151, 25)}
    assert {x[..., 0].tobytes() for x in task.x_test[task.y_test == 0]} == wanted
    assert task.notes == ("columns: ax, ay", "split by its 5 groups")


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ({"sep": ";", "decimal": ","}, {}),
        ({"sep": "\t"}, {}),
        ({"encoding": "utf-8-sig"}, {}),
        ({"index": True}, {}),
        ({"header": False}, {"columns": "1,2", "label": "4", "group": "3"}),
        ({"lineterminator": ",\n"}, {}),
        ({"lineterminator": "  \n"}, {}),
        ({"lineterminator": ",\n"}, {"names": "time,ax,ay,person,activity"}),
    ],
)
def test_text_files_are_read_as_they_are_written(tmp_path, written, options):
    recorded().to_csv(tmp_path / "plain.csv", index=False)
    recorded().to_csv(tmp_path / "t.csv", **({"index": False} | written))
    if names := options.get("names"):  # fewer than its lines have fields
        lines = (tmp_path / "t.csv").read_text().splitlines()
        (tmp_path / "t.csv").write_text("\n".join([names, *lines[1:]]))
        options = {}
    plain = table_task(tmp_path / "plain.csv", group="person", window=50)
    task = table_task(tmp_path / "t.csv", **({"group": "person", "window": 50} | options))
    assert np.allclose(task.x_test, plain.x_test)
    assert task.y_train.tolist() == plain.y_train.tolist()


@pytest.mark.parametrize(
    ("label", "note"),
    [
        (lambda a: a + 1, "labels: 1 is class 0, 2 is class 1, 3 is class 2"),
        (lambda a: np.array([2, 5, 9])[a], "labels: 2 is class 0, 5 is class 1, 9 is class 2"),
        (lambda a: a > 0, "labels: False is class 0, True is class 1"),
        (lambda a: a.astype(float), ""),
    ],
)
def test_labels_as_people_write_them_are_mapped_and_the_mapping_is_told(tmp_path, label, note):
    frame = recorded()
    frame["activity"] = label(frame["activity"].map(ACTIVITIES.index).to_numpy())
    frame.to_csv(tmp_path / "t.csv", index=False)
    notes = table_task(tmp_path / "t.csv", group="person", window=50).notes
    assert notes == tuple(filter(None, ("columns: ax, ay", note, "split by its 5 groups")))


def test_a_one_hot_label_is_several_columns(tmp_path):
    frame = recorded()
    plain = frame.copy()
    for name in ACTIVITIES:
        frame[name] = (frame["activity"] == name).astype(int)
    frame.drop(columns="activity").to_csv(tmp_path / "t.csv", index=False)
    plain.to_csv(tmp_path / "plain.csv", index=False)
    task = table_task(tmp_path / "t.csv", group="person", window=50, label="run, sit, walk")
    assert task.y_test.tolist() == table_task(tmp_path / "plain.csv", group="person", window=50).y_test.tolist()
    assert "one-hot over 3 classes" in task.notes
    assert task.classes == ("run", "sit", "walk")


def test_a_folder_of_recordings_deals_whole_files(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for seed in range(5):
        for a in range(3):
            rows(a, 200, seed).to_csv(folder / f"{ACTIVITIES[a]}_{seed}.csv", index=False)
    (folder / "about.txt").write_text("recorded, on a Monday")
    task = table_task(folder, window=50)
    assert task.counts() == {"train": [21] * 3, "val": [7] * 3, "test": [7] * 3}
    assert task.notes == (
        "left out 1 of 16 files: 1 without rows (about.txt)",
        "columns: ax, ay",
        "split by whole recordings",
    )
    told = table_task(folder, window=50, name_label="^([a-z]+)_", name_group=r"_(\d)\.", columns="ax,ay")
    assert (told.classes, len(set(told.groups_test))) == (("run", "sit", "walk"), 1)


@pytest.mark.parametrize("splits", [("",), ("train", "test")])
def test_folders_are_classes_and_splits(tmp_path, splits):
    for at, split in enumerate(splits):
        for a in range(3):
            place = tmp_path / "data" / split / ACTIVITIES[a]
            place.mkdir(parents=True)
            for seed in range(6):
                frame = rows(a, 200, 10 * at + seed).drop(columns=["activity", "person"])
                frame.to_csv(place / f"{seed}.csv", index=False)
    task = table_task(tmp_path / "data", window=50)
    assert task.classes == ("run", "sit", "walk")
    assert sum(task.counts()["test"]) == (3 * 6 * 7 if len(splits) == 2 else 3 * 7)


def shared_rows(task) -> set:
    seen = [{row.tobytes() for x in xs for row in x[:, :, 0].T} for _, xs, _ in task.splits()]
    return seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_few_recordings_are_dealt_in_blocks_of_time_and_no_row_is_in_two_splits(tmp_path):
    frame = pd.concat([rows(a, 2000, 0) for a in range(3)], ignore_index=True)
    frame.to_csv(tmp_path / "t.csv", index=False)
    task = table_task(tmp_path / "t.csv", window=20, stride=5, columns="ax,ay")
    assert not shared_rows(task)
    assert task.groups_test is None
    assert "split by blocks of time" in task.notes[-1]
    sizes = {split: sum(counts) for split, counts in task.counts().items()}
    assert sizes["train"] > 3 * sizes["test"] > 0


def test_runs_of_a_label_are_dealt_whole_where_there_are_enough(tmp_path):
    recorded().to_csv(tmp_path / "t.csv", index=False)
    task = table_task(tmp_path / "t.csv", window=20, stride=5, columns="ax,ay")
    assert not shared_rows(task)
    assert task.notes[-1] == "split by runs of a label"


def test_rows_are_samples_when_the_window_is_one(tmp_path):
    recorded().to_csv(tmp_path / "t.csv", index=False)
    task = table_task(tmp_path / "t.csv", columns="ax, ay")
    assert task.input_shape == (2, 1, 1)
    assert sum(map(sum, task.counts().values())) == 3000
    assert task.notes[-1] == "split by the hash of the rows"


def test_missing_values_and_labels_are_left_out_and_counted(tmp_path):
    frame = recorded()
    frame.loc[10, "ax"] = np.nan
    frame["ay"] = frame["ay"].astype(object)
    frame.loc[700, "ay"] = "broken"
    frame.loc[400:449, "activity"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    task = table_task(tmp_path / "t.csv", group="person", window=50, stride=50, columns="ax,ay")
    assert sum(map(sum, task.counts().values())) == 60 - 2 - 1
    assert "50 rows without a label are left out" in task.notes
    assert "2 windows with missing values are left out" in task.notes
    frame.loc[::20, "ax"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"windows have missing values: at most a share of 0.1"):
        table_task(tmp_path / "t.csv", group="person", window=50, columns="ax,ay")


def test_gaps_in_a_file_change_no_name_in_it(tmp_path):
    for seed, person in enumerate((10, 10, 11, 12, 13, 14)):
        frame = pd.concat([rows(a, 100, seed) for a in range(3)], ignore_index=True)
        numbers = frame["activity"].map({"sit": 1, "walk": 2, "run": "idle" if seed else 3}).astype(object)
        frame["activity"], frame["person"] = numbers, person
        if seed in (0, 2):
            frame.loc[:9, ["activity", "person"]] = None  # a row without a label needs no group
        if seed == 0:
            frame = frame[frame["activity"] != 3]  # numbers alone, read as fractions because of the gap
        frame.to_csv(tmp_path / f"{seed}.csv", index=False)
    task = table_task(tmp_path, group="person", window=20)
    assert task.classes == ("1", "2", "idle")
    assert "split by its 5 groups" in task.notes
    assert set(task.groups_test) <= {"10", "11", "12", "13", "14"}


def test_persons_are_not_told_apart_by_spelling(tmp_path):
    frame = recorded()
    frame.loc[frame["person"] == "p1", "person"] = "P0"
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="groups: names 'P0' and 'p0' differ in spelling alone"):
        table_task(tmp_path / "t.csv", group="person", window=50)


def test_an_odd_file_is_named_and_left_out_up_to_a_share(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for seed in range(5):
        for a in range(3):
            rows(a, 200, seed).to_csv(folder / f"{ACTIVITIES[a]}_{seed}.csv", index=False)
    (folder / "x.csv").write_bytes(b"\x00\xff\x00")
    (folder / "z.csv").write_text("q,activity\n1,sit\n")
    (folder / "picture.png").write_bytes(b"")
    task = table_task(folder, window=50, most_broken=0.2)
    assert task.notes[0].startswith("left out 3 of 18 files: ")
    for told in ("(x.csv)", "1 without column 'ax' (z.csv)", "1 .png (picture.png)"):
        assert told in task.notes[0]
    with pytest.raises(InputError, match=r"2 of 17 files cannot be read.*options.most_broken"):
        table_task(folder, window=50)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "is no readable table"),
        ("ax,ay\n", {}, "is without rows"),
        ("ax,ay\n1,2\n", {}, "say which column is the label, options.label: its columns are ax, ay"),
        ("ax,label\n1,2\n", {"label": "who"}, "has no column 'who': its columns are ax, label"),
        ("ax,label\n1,2\n", {"columns": "ay"}, "has no column 'ay'"),
        ("time,label\n1,2\n2,2\n", {}, "has no column of numbers beside label, group and time"),
        ("ax,label\n" + "1,a\n" * 9 + "1,b\n" * 9, {"window": 20}, "nowhere are 20 rows in succession"),
        ("ax,label\n1,0.5\n2,0.7\n", {}, "holds 0.5, labels must be whole numbers"),
        ("ax,label\n1,a\n7,a\n3,b\n4,b\n5,b\n", {}, "label 0 has 2 different samples.*labels 0 = a, 1 = b"),
        ("ax,label\n1,2\n", {"window": 0}, "window = 0: must be at least 1 row"),
        ("ax,label\n1,2\n", {"stride": -1}, "stride = -1: must be at least 1 row, or 0"),
        ("ax,label\n1,2\n", {"name_group": "("}, "is not a regular expression"),
        ("ax,label\n1,7,2\n5,8,1\n", {}, "lines have more fields than its first line has names: name every column"),
        ("ax,label\n1,7,2\n2,8,1\n", {}, "lines have more fields than its first line has names: name every column"),
        ("ax,label\n1,\n5,\n", {}, "no row has a label in label"),
        ("ax,label\n1,None\n5,None\n7,left\n", {}, "label is 'None' in 2 rows: if that is a name, write another"),
        ("ax,label\n1,NA\n5,NA\n", {}, "label is 'NA' in 2 rows"),
        ("ax,label,who\n1,a,bo\n5,a,\n7,b,al\n", {"group": "who"}, "who is empty in 1 rows: name their group"),
        ("ax,label,who\n1,a,bo\n5,a,NA\n7,b,al\n", {"group": "who"}, "who is 'NA' in 1 rows"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, content, options, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        table_task(tmp_path / "t.csv", **options)
    assert "\n" not in str(caught.value)


def test_one_place_is_needed():
    with pytest.raises(InputError, match=r"name a .csv or .parquet file or a folder of them: task.path or task.data"):
        load_task(TaskChoice(name="table"))
    with pytest.raises(InputError, match="no such file or folder"):
        load_task(TaskChoice(name="table", path="/nowhere.csv"))
