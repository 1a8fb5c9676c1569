import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mcu.errors import InputError
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))


def folder_task(folder, **options):
    return load_task(TaskChoice(name="image-folder", data=str(folder), options=options))


def test_images_are_fitted_to_one_size(tmp_path, write):
    task = folder_task(write["images"](tmp_path / "p"), size=16)
    assert (task.input_shape, task.classes, task.x_train.dtype) == ((3, 16, 16), ("cup", "key", "pen"), np.uint8)
    assert sum(map(sum, task.counts().values())) == 60
    assert folder_task(tmp_path / "p", size=16, colour="grey").input_shape == (1, 16, 16)


def save(path, pixels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)


def gradient(seed, dtype=np.uint8, top=255):
    return ((np.arange(64).reshape(8, 8) / 63 * 0.8 + 0.002 * seed) * top).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "dtype", "top"), [(".png", np.uint16, 65535), (".tif", np.float32, 1.0), (".png", np.uint8, 255)]
)
def test_images_of_other_depths_keep_their_greys(tmp_path, suffix, dtype, top):
    for label in "ab":
        for seed in range(8):
            save(tmp_path / "p" / label / f"{seed}{suffix}", gradient(seed + (20 if label == "b" else 0), dtype, top))
    task = folder_task(tmp_path / "p", size=8, colour="grey")
    darkest = min(x.min() for _, x, _ in task.splits())
    brightest = max(x.max() for _, x, _ in task.splits())
    assert darkest <= 1
    assert 210 <= brightest <= 220


def test_images_are_turned_upright(tmp_path):
    for label in "ab":
        for seed in range(5):
            pixels = np.full((8, 8), 10 * seed + (5 if label == "b" else 0), np.uint8)
            pixels[0] = 255
            exif = Image.Exif()
            exif[274] = 6 if label == "b" else 1  # 6: the camera was turned, the first row is on the right
            save(tmp_path / "p" / label / f"{seed}.png", pixels, exif=exif)
    task = folder_task(tmp_path / "p", size=8, colour="grey")
    upright, turned = (task.x_test[task.y_test == label][0, 0] for label in (0, 1))
    assert (upright[0] == 255).all()
    assert (turned[:, -1] == 255).all()


def test_files_that_are_no_images_are_named_and_left_out(tmp_path, write, capsys):
    folder = write["images"](tmp_path / "p")
    whole = (folder / "cup" / "3.png").read_bytes()
    (folder / "cup" / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "pen" / "7.png").write_bytes(b"hello")
    (folder / "pen" / "notes.txt").write_text("no image, and no name of one")
    task = folder_task(folder)
    assert sum(map(sum, task.counts().values())) == 58
    said = capsys.readouterr().err
    assert "left out 3 of 61 files: 2 broken (cup/3.png, pen/7.png); 1 .txt (pen/notes.txt)" in said
    assert task.notes == folder_task(folder).notes  # the second time from the cache
    assert "left out" not in capsys.readouterr().err


def test_what_a_image_is_its_content_tells(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for at, suffix in enumerate((".jfif", ".jpe", ".JPG", "", ".unknown", ".webp")):
        kind = "WEBP" if suffix == ".webp" else "JPEG"
        Image.fromarray(gradient(at)).save(folder / "cup" / f"more{at}{suffix}", format=kind)
    task = folder_task(folder)
    assert sum(map(sum, task.counts().values())) == 66
    assert task.notes == ()


def test_a_set_with_too_many_broken_files_is_refused_and_the_share_can_be_said(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for at in range(9):
        (folder / "cup" / f"{at}.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"9 of 60 images cannot be read, 9 broken \(cup/0.png.* share of 0.1"):
        folder_task(folder)
    assert sum(map(sum, folder_task(folder, most_broken=0.2).counts().values())) == 51


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of other systems")
def test_links_to_nowhere_and_pipes_are_left_out_and_named(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    (folder / "cup" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "cup" / "pipe.png")
    task = folder_task(folder)
    assert task.notes == ("left out 2 of 62 files: 2 link or no file (cup/gone.png, cup/pipe.png)",)


def shape_image(number, kind, mode="RGB"):
    """A black ellipse or rectangle on white; with an alpha channel, on noise that nobody sees."""
    rng = np.random.default_rng([number, len(kind)])
    left, top, size = rng.integers(2, 8), rng.integers(2, 8), rng.integers(10, 20)
    inside = Image.new("L", (32, 32), 0)
    draw = ImageDraw.Draw(inside)
    (draw.ellipse if kind == "round" else draw.rectangle)([left, top, left + size, top + size], fill=255)
    if mode == "RGB":
        return Image.composite(Image.new("RGB", (32, 32), "black"), Image.new("RGB", (32, 32), "white"), inside)
    under = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    under[np.asarray(inside) == 255] = 0
    image = Image.fromarray(under)
    image.putalpha(inside)
    return image


def shapes(folder, splits=("",), mode="RGB", count=20):
    for at, split in enumerate(splits):
        for kind in ("round", "square"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(count):
                shape_image(100 * at + number, kind, mode).save(folder / split / kind / f"{number}.png")
    return folder


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("Training", "valid", "testing"), ("train", "test")])
def test_folders_of_splits_are_the_splits(tmp_path, splits):
    folder = shapes(tmp_path / "p", splits)
    task = folder_task(folder)
    assert task.classes == ("round", "square")
    held = {shape_image(100 * (len(splits) - 1) + n, kind).tobytes() for n in range(20) for kind in task.classes}
    assert {x.transpose(1, 2, 0).tobytes() for x in task.x_test} == held
    assert sum(map(sum, task.counts().values())) + task.dropped == 40 * len(splits)
    assert (len(task.y_val) > 30) == (len(splits) == 3)
    assert any("are the splits" in note for note in task.notes)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train",), "has train/ only: as splits allowed are train/ and test/"),
        (("train", "val"), "has train/, val/ only"),
        (("train", "training", "test"), "train and training are both for train"),
    ],
)
def test_folders_that_are_half_a_split_are_asked_about(tmp_path, splits, message):
    with pytest.raises(InputError, match=message):
        folder_task(shapes(tmp_path / "p", splits))


def test_a_split_without_a_class_is_refused_by_name(tmp_path):
    folder = shapes(tmp_path / "p", ("train", "test"))
    (folder / "test" / "square").rename(folder / "test" / ".square")
    with pytest.raises(InputError, match="test/ has no folder 'square'"):
        folder_task(folder)


def test_train_can_be_a_class_among_others(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    (folder / "cup").rename(folder / "train")
    assert folder_task(folder).classes == ("key", "pen", "train")


def test_what_is_transparent_is_not_seen(tmp_path):
    seen = folder_task(shapes(tmp_path / "solid"))
    laid = folder_task(shapes(tmp_path / "clear", mode="RGBA"))
    assert {x.tobytes() for _, xs, _ in laid.splits() for x in xs} == {
        x.tobytes() for _, xs, _ in seen.splits() for x in xs
    }
    assert laid.notes == ("40 transparent images lie on white (options.background)",)
    red = folder_task(tmp_path / "clear", background="#ff0000")
    assert red.x_train[0][:, 0, 0].tolist() == [255, 0, 0]
    with pytest.raises(InputError, match="background = 'puce': must be a colour"):
        folder_task(tmp_path / "clear", background="puce")


def test_a_class_of_one_colour_is_refused_as_such(tmp_path):
    with pytest.raises(InputError, match="all 20 images of 'round' are of one colour"):
        folder_task(shapes(tmp_path / "clear", mode="RGBA"), background="black")


def test_twelve_bits_in_a_file_of_sixteen_keep_their_greys(tmp_path):
    for label in "ab":
        for seed in range(8):
            save(tmp_path / "p" / label / f"{seed}.png", gradient(seed + 20 * (label == "b"), np.uint16, 4095))
    task = folder_task(tmp_path / "p", size=8, colour="grey")
    assert len(np.unique(task.x_train)) > 60
    assert 200 <= task.x_train.max() <= 255
    assert task.notes == ("16 images of 16 bits hold at most 3,497: scaled as 12 bits",)


def test_a_large_image_is_read_without_a_warning(tmp_path, write, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow warns from here on and refuses from twice as much
    for label in "ab":
        for seed in range(6):
            save(tmp_path / "p" / label / f"{seed}.png", gradient(seed + 20 * (label == "b")))
    save(tmp_path / "p" / "a" / "bomb.png", np.zeros((16, 16), np.uint8))
    task = folder_task(tmp_path / "p", size=8)
    assert not [warning for warning in recwarn if "bomb" in str(warning.message).lower()]
    assert task.notes == ("left out 1 of 13 files: 1 too large (a/bomb.png)",)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: (folder / "empty").mkdir(), "empty: holds none of the images among 0 files"),
        (
            lambda folder: [path.write_bytes(b"") for path in (folder / "cup").iterdir()],
            "cup: holds none of the images among 20 files: 20 broken",
        ),
        (lambda folder: [path.unlink() for path in list((folder / "cup").iterdir())[2:]], "label 0 has 2 different"),
        (lambda folder: shutil.copytree(folder / "cup", folder / "Cup"), "class folders 'Cup' and 'cup' differ in sp"),
    ],
)
def test_a_class_without_enough_images_is_refused(tmp_path, write, build, message):
    build(write["images"](tmp_path / "p"))
    with pytest.raises(InputError, match=message):
        folder_task(tmp_path / "p")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 2}, "size = 2: must be 4 to 1024"), ({"colour": "blue"}, "colour = 'blue': must be one of rgb, grey")],
)
def test_unknown_options_of_images_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        folder_task(tmp_path, **options)


def test_one_class_is_no_task(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for name in ("key", "pen"):
        (folder / name).rename(folder / f".{name}")
    with pytest.raises(InputError, match="has 1 class folders, needs at least 2"):
        folder_task(folder)


def test_equal_images_are_in_one_split(tmp_path, write):
    folder = write["images"](tmp_path / "p")
    for path in sorted((folder / "cup").iterdir()):
        (folder / "cup" / f"copy of {path.name}").write_bytes(path.read_bytes())
    task = folder_task(folder)
    seen = [{sample.tobytes() for sample in x} for _, x, _ in task.splits()]
    assert not seen[0] & seen[1] | seen[1] & seen[2] | seen[0] & seen[2]
