"""The order of the house, read from the code: who may use whom, how full a folder and how long a function may be."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
MOST_FILES, MOST_LINES = 20, 60
GENERATED = ("docs/results/fashion_mnist/figures", "docs/results/comparison/lineage/figures")


@pytest.fixture(scope="module")
def house():
    spec = importlib.util.spec_from_file_location("make_rooms", HOUSE / "docs" / "make_rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packages_use_only_what_they_may(house):
    upwards = [
        f"{module} -> {other}"
        for module, used in house.imports().items()
        for other in used
        if (here := module.partition(".")[0]) != (there := other.partition(".")[0]) and there not in house.ALLOWED[here]
    ]
    assert not upwards
    assert set(house.ALLOWED) == {path.parent.name for path in HOUSE.glob("*/__init__.py")}


def test_neither_modules_nor_rooms_import_in_a_circle(house):
    assert house.circle({"a": {"b"}, "b": {"a"}, "c": set()}) == ["a", "b"]
    assert not house.circle(house.imports())
    assert not house.circle(house.rooms())


def test_the_picture_shows_the_rooms_there_are(house):
    assert house.PICTURE.read_text("utf-8") == house.picture(), "python docs/make_rooms.py draws it anew"


def test_no_folder_holds_more_files_than_one_looks_through():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to it is not known")
    there = [path for path in listed.stdout.split("\0") if path and (HOUSE / path).exists()]
    count = Counter(str(Path(path).parent) for path in there)
    assert not {folder: n for folder, n in count.items() if n > MOST_FILES and folder not in GENERATED}


def test_whatever_is_no_module_goes_into_the_wheel(house):
    tool = tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    kept = {str(path.relative_to(HOUSE)) for package in house.ALLOWED for path in (HOUSE / package).rglob("*")}
    kept = {path for path in kept if (HOUSE / path).is_file() and not path.endswith((".py", ".pyc"))}
    data = tool["package-data"]
    packed = [f"{package}/{kind}" for package in house.ALLOWED for kind in (*data["*"], *data.get(package, ()))]
    assert kept == {str(path.relative_to(HOUSE)) for kind in packed for path in HOUSE.glob(kind)}
    assert not {
        room for room in house.ALLOWED if not any(fnmatch(room, kind) for kind in tool["packages"]["find"]["include"])
    }


def test_no_function_is_longer_than_a_screen(house):
    long = [
        f"{path.relative_to(HOUSE)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in house.modules().values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > MOST_LINES
    ]
    assert not long


def test_the_packages_that_travel_to_a_cluster_are_all(house):
    from orchestrator.executors.ray_cluster import ROOMS

    assert set(ROOMS) == set(house.ALLOWED)


def test_the_public_package_loads_nothing_until_it_is_asked():
    code = (
        "import sys, time; begin = time.process_time(); import mcusweep; took = time.process_time() - begin;"
        "heavy = {'torch', 'ray', 'optuna', 'numpy', 'pandas', 'sqlalchemy'} & set(sys.modules);"
        "assert not heavy, heavy; assert took < 0.3, took; print(mcusweep.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".") == 2
