"""Models as a library for other build systems: Arduino, PlatformIO, Zephyr, ESP-IDF, CMake.

One public header, ``mcusweep_model.h``, and one C file: kernels and tables are static, so that no symbol can clash.
Several models share one arena.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcu.cost.deployment import write_deployment
from mcu.cost.firmware_memory import FirmwarePlan
from mcu.errors import InputError
from mcu.firmware.flags import KERNEL_SOURCES
from mcu.firmware.project import ARENA, TEMPLATES, Codes, model_values, render_file
from mcu.int8.model import Int8Model

FOLDER = "mcusweep_model"
"""Name of the library and of its folder, which Arduino and ESP-IDF take it from."""

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LOCAL_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


class LibraryFormat(StrEnum):
    """Target build system of a library."""

    ARDUINO = "arduino"
    PLATFORMIO = "platformio"
    ZEPHYR = "zephyr"
    ESP_IDF = "esp-idf"
    CMAKE = "cmake"


def library_form(name: str) -> LibraryFormat:
    """The format of this name. Raises InputError if there is none."""
    if name not in list(LibraryFormat):
        raise InputError(f"library format {name!r}: must be one of {', '.join(LibraryFormat)}")
    return LibraryFormat(name)


IDENTITY_DIGITS = 16


def identity_of(data: bytes) -> str:
    """What a board calls a model: the first hexadecimal digits of the SHA-256 of its .tflite file."""
    return hashlib.sha256(data).hexdigest()[:IDENTITY_DIGITS]


@dataclass(frozen=True)
class LibraryModel:
    """A model and the prefix of its functions' names; self-test vectors, ``hop`` and ``plan`` as in ``write_project``.

    ``data`` is its .tflite file, by whose hash a board says which model it runs; by default as ``write_deployment``
    makes it.
    """

    name: str
    model: Int8Model
    samples: Codes | None = None
    expected: Codes | None = None
    data: bytes | None = None
    hop: int | None = None
    plan: FirmwarePlan | None = None


@dataclass(frozen=True)
class _Form:
    """Files beside the sources, from their path to their template, and what a reader has to do with the folder."""

    files: dict[str, str]
    use: str


_MEASURE = {"examples/measure.c": "measure.c"}
_FORMS = {
    LibraryFormat.ARDUINO: _Form(
        {
            "library.properties": "arduino.properties",
            "examples/SelfTest/SelfTest.ino": "arduino_self_test.ino",
            "examples/Measure/Measure.ino": "arduino_measure.ino",
        },
        "Copy this folder to `libraries/` of your Arduino sketchbook, or add it as a .ZIP library.",
    ),
    LibraryFormat.PLATFORMIO: _Form(
        {"library.json": "platformio.json", **_MEASURE},
        "Copy this folder to `lib/` of your PlatformIO project.",
    ),
    LibraryFormat.ZEPHYR: _Form(
        {
            "zephyr/module.yml": "zephyr_module.yml",
            "zephyr/Kconfig": "zephyr_kconfig",
            "zephyr/CMakeLists.txt": "zephyr_cmake.txt",
            **_MEASURE,
        },
        "Build your application with `-DZEPHYR_EXTRA_MODULES=` and the path of this folder.",
    ),
    LibraryFormat.ESP_IDF: _Form(
        {"CMakeLists.txt": "idf_cmake.txt", "idf_component.yml": "idf_component.yml", **_MEASURE},
        "Copy this folder to `components/` of your ESP-IDF project.",
    ),
    LibraryFormat.CMAKE: _Form(
        {"CMakeLists.txt": "cmake.txt", "test/self_test.c": "cmake_self_test.c", **_MEASURE},
        "`add_subdirectory(mcusweep_model)` and `target_link_libraries(your_target PRIVATE mcusweep_model)`.",
    ),
}


def write_library(
    models: Sequence[LibraryModel], folder: Path, form: LibraryFormat, *, sources: Sequence[str] = ()
) -> None:
    """Write a library into a folder, which is created if missing and should be named ``FOLDER``.

    Args:
        models: in the order of the header.
        sources: C files that the caller puts into ``src/`` beside ours, such as ``frontend.c``.

    Raises:
        InputError: if a name is not a lower-case C identifier or is given twice, and as ``write_project``.
    """
    _check_names(models)
    written = [model_values(one.model, one.samples, one.expected, f"{one.name}_", one.plan, one.hop) for one in models]
    files = {
        "src/mcusweep_model.h": "mcusweep_model.h",
        "src/mcusweep_model.c": "mcusweep_model.c",
        "src/mcusweep_self_test.c": "mcusweep_self_test.c",
        "README.md": "README.md",
    }
    values: dict[str, Any] = {
        "models": [
            {"name": one.name, "identity": _identity(one)} | told for one, told in zip(models, written, strict=True)
        ],
        "form": form,
        "arena_bytes": max((told["arena_bytes"] for told in written if told["arena"] == ARENA), default=0),
        "kernels": _joined(KERNEL_SOURCES),
        "sources": [*sorted(Path(path).name for path in files if path.endswith(".c")), *sources],
        "sound": "frontend.c" in sources,
        "use": _FORMS[form].use,
    }
    for path, template in (files | _FORMS[form].files).items():
        render_file(f"library/{template}.j2", values, folder / path)


def _identity(one: LibraryModel) -> str:
    """That of its file; a stream's is another, because the time of a step is not that of an inference."""
    data = write_deployment(one.model) if one.data is None else one.data
    return identity_of(data if one.hop is None else data + f"stream {one.hop}".encode())


def _check_names(models: Sequence[LibraryModel]) -> None:
    seen: set[str] = set()
    for one in models:
        if not isinstance(one.name, str) or not MODEL_NAME.fullmatch(one.name):
            raise InputError(
                f"model name {one.name!r}: begins the names of C functions: allowed are a lower-case letter, then up "
                "to 31 lower-case letters, digits and '_'"
            )
        if one.name in seen:
            raise InputError(
                f"model name {one.name!r} is there twice: every model of a library needs a name of its own"
            )
        seen.add(one.name)
    if not models:
        raise InputError("library: no model; at least one is needed")


def _joined(sources: Sequence[str]) -> str:
    """The kernel sources as one text, each header at its first use."""
    seen: set[str] = set()

    def expanded(name: str) -> str:
        text = (TEMPLATES / "kernels" / name).read_text("ascii")
        return _LOCAL_INCLUDE.sub(lambda found: header(found[1]), text)

    def header(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return expanded(name)

    return "\n".join(expanded(source) for source in sources)
