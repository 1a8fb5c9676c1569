"""Models as libraries: built with each folder's own files, two in one image, run here and on emulated boards."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mcu.cost.firmware_memory import plan_memory
from mcu.errors import InputError
from mcu.firmware import CORES, toolchain
from mcu.firmware.emulator import emulator_command
from mcu.firmware.flags import LINK_FLAGS, WARNINGS
from mcu.firmware.library import FOLDER, LibraryFormat, LibraryModel, write_library
from mcu.firmware.project import copy_sources
from random_nets import every_operator_net, plain_net

TWO = (
    LibraryModel("every", every_operator_net(head=False)),
    LibraryModel("digits_2", plain_net(size=8, width=4)),
)
STAND_INS = """
cmake_minimum_required(VERSION 3.13)
project(outside C)
set(CONFIG_MCUSWEEP_MODEL y)
function(zephyr_library)
  add_library(made STATIC)
endfunction()
function(zephyr_library_sources)
  target_sources(made PRIVATE ${ARGN})
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(made PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  target_include_directories(made PUBLIC ${ARGN})
endfunction()
macro(idf_component_register)
  cmake_parse_arguments(IDF "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  add_library(made STATIC ${IDF_SRCS})
  target_include_directories(made PUBLIC ${IDF_INCLUDE_DIRS})
  set(COMPONENT_LIB made)
endmacro()
"""
MAIN = """
#include "mcusweep_model.h"
#include "platform.h"

int main(void)
{
    const int32_t wrong = every_self_test() + digits_2_self_test();
    platform_print((wrong == 0) ? "right\\n" : "wrong\\n");
    platform_exit(wrong);
    return 0;
}
"""
needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("cc") is None, reason="no cmake or no cc on this computer"
)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_cmake
def test_two_models_of_one_library_share_memory_and_no_symbol(tmp_path: Path) -> None:
    write_library(TWO, tmp_path, LibraryFormat.CMAKE)
    flags = " ".join(WARNINGS)
    run("cmake", "-B", "build", f"-DCMAKE_C_FLAGS={flags}", "-DCMAKE_C_EXTENSIONS=OFF", folder=tmp_path)
    run("cmake", "--build", "build", folder=tmp_path)
    assert "100% tests passed" in run("ctest", "--test-dir", "build", folder=tmp_path)
    symbols = run("nm", "-g", "--defined-only", "build/libmcusweep_model.a", folder=tmp_path).split()
    assert {name for name in symbols if name.isidentifier() and len(name) > 1} == {
        *(f"{one.name}_{what}" for one in TWO for what in ("invoke", "self_test")), "mcusweep_serial",
    }  # fmt: skip
    arena = max(plan_memory(one.model).total for one in TWO)
    assert f"#define MCUSWEEP_ARENA_BYTES {arena}\n" in (tmp_path / "src/mcusweep_model.h").read_text()


@pytest.mark.parametrize("name", ["cortex-m0+", "cortex-m4f", "cortex-m55", "riscv32imc", "avr5"])
@needs_cmake
def test_two_models_in_one_image_are_bit_exact_on_boards(tmp_path: Path, name: str) -> None:
    core = CORES[name]
    tools, board = toolchain(core.architecture), core.stand_in or core.board
    if advice := tools.advice():
        pytest.skip(advice)
    library = tmp_path / FOLDER
    write_library(TWO, library, LibraryFormat.CMAKE)
    copy_sources(tmp_path)
    (tmp_path / "image.c").write_text(MAIN)
    cross = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]
    cross += [f"-DCMAKE_C_COMPILER={tools.compiler()}", f"-DCMAKE_C_FLAGS={' '.join((*core.flags, *WARNINGS))}"]
    run("cmake", "-S", FOLDER, "-B", "build", *cross, folder=tmp_path)
    run("cmake", "--build", "build", folder=tmp_path)
    memory = {"FLASH_ORIGIN": board.flash_origin, "FLASH_SIZE": 1 << 19, "RAM_ORIGIN": board.ram_origin}
    memory |= {"RAM_SIZE": min(board.ram, 1 << 16), "STACK_SIZE": 4096}
    symbols = [f"-Wl,--defsym={key}={value:#x}" for key, value in memory.items()]
    linked = [*core.flags, *core.architecture.link_flags, *LINK_FLAGS, *symbols, "-I.", f"-I{FOLDER}/src"]
    sources = ["image.c", *core.architecture.self_test, "build/libmcusweep_model.a"]
    run(str(tools.compiler()), *linked, *sources, "-o", "image.elf", folder=tmp_path)
    assert "right" in run(*emulator_command(tmp_path / "image.elf", board, tools), folder=tmp_path)


@needs_cmake
@pytest.mark.parametrize(("form", "inside"), [(LibraryFormat.ZEPHYR, "zephyr"), (LibraryFormat.ESP_IDF, ".")])
def test_build_files_of_others_find_every_source(tmp_path: Path, form: LibraryFormat, inside: str) -> None:
    write_library(TWO[1:], tmp_path / FOLDER, form)
    (tmp_path / "CMakeLists.txt").write_text(f"{STAND_INS}add_subdirectory({FOLDER}/{inside} made)\n")
    run("cmake", "-B", "build", folder=tmp_path)
    run("cmake", "--build", "build", folder=tmp_path)
    assert len(list(tmp_path.glob("build/**/libmade.a"))) == 1


def test_arduino_and_platformio_say_what_they_hold(tmp_path: Path) -> None:
    write_library(TWO, tmp_path / "a", LibraryFormat.ARDUINO)
    lines = (tmp_path / "a/library.properties").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert (told["name"], told["includes"]) == (FOLDER, "mcusweep_model.h")
    assert "avr" in told["architectures"].split(",")
    assert "digits_2_self_test()" in (tmp_path / "a/examples/SelfTest/SelfTest.ino").read_text()
    write_library(TWO, tmp_path / "p", LibraryFormat.PLATFORMIO)
    library = json.loads((tmp_path / "p/library.json").read_text())
    assert (tmp_path / "p" / library["build"]["srcDir"] / library["headers"]).is_file()


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on this computer")
def test_header_is_for_c_plus_plus_too(tmp_path: Path) -> None:
    write_library(TWO[1:], tmp_path, LibraryFormat.ARDUINO)
    text = '#include "mcusweep_model.h"\nint main() { return (int)digits_2_self_test(); }\n'
    (tmp_path / "main.cpp").write_text(text)
    run("c++", "-Isrc", "-c", "main.cpp", folder=tmp_path)
    assert "U digits_2_self_test\n" in run("nm", "main.o", folder=tmp_path)


@pytest.mark.parametrize("name", ["", "Digits", "2nd", "a-b", "x" * 33, "a\nb"])
def test_names_that_are_no_beginning_of_a_function_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        write_library([LibraryModel(name, TWO[1].model)], tmp_path, LibraryFormat.CMAKE)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'every' is there twice"):
        write_library([TWO[0], TWO[0]], tmp_path, LibraryFormat.CMAKE)
