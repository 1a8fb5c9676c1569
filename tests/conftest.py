import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: one core for each worker and each trial

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "sweeps"))  # for its made-up trials

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a suite that runs in the background has Ctrl-C ignored, and every process it starts would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# the same examples in every run, whatever else the machine does; HYPOTHESIS_PROFILE=random looks for new ones
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_run(tmp_path_factory):
    """Loaded tasks are kept apart from the user's own, for every process the tests start."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MCUSWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
