"""One conformance suite that every executor must pass."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.executors.attempt import WorkerSetting
from orchestrator.executors.base import Event, Executor, ExecutorError, Finished, LossReason, Lost, Reported, Started
from orchestrator.executors.local import LocalExecutor

FAKES = Path(__file__).parents[1] / "fakes"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


def local(setting: WorkerSetting) -> Executor:
    return LocalExecutor(setting, workers=2)


told: list[str] = []
"""What executors of this module say to a person."""


def on_ray(setting: WorkerSetting) -> Executor:
    from orchestrator.executors.ray import RayExecutor

    return RayExecutor(setting, workers=2, tell=told.append)


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest, artifacts: Path) -> Iterator[Executor]:
    make: Callable[[WorkerSetting], Executor] = {"local": local, "ray": on_ray}[request.param]
    with make(WorkerSetting("fake_worker:run_trial", str(artifacts), (str(FAKES),))) as executor:
        yield executor


@pytest.fixture
def seed(artifacts: Path) -> int:
    return time.time_ns() % 2**40


def collect(executor: Executor, attempts: set[str], until: Callable[[Event], bool] | None = None) -> list[Event]:
    """Events until every attempt has ended (or ``until`` says so)."""
    events: list[Event] = []
    open_attempts = set(attempts)
    deadline = time.monotonic() + PATIENCE
    while open_attempts and time.monotonic() < deadline:
        for event in executor.poll(0.2):
            events.append(event)
            if isinstance(event, Finished | Lost):
                open_attempts.discard(event.attempt)
            if until is not None and until(event):
                return events
    assert not open_attempts, f"never ended: {open_attempts}"
    return events


def ends(events: list[Event], attempt: str) -> list[Event]:
    return [event for event in events if event.attempt == attempt and isinstance(event, Finished | Lost)]


def test_each_attempt_starts_reports_in_order_and_ends_once(executor, make_spec, seed):
    attempts = {f"a{k}": make_spec(seed=seed + k, reports=3, quality=0.1 * k) for k in range(4)}
    for attempt, spec in list(attempts.items())[:2]:
        executor.submit(attempt, spec)
    events = collect(executor, {"a0", "a1"})
    for attempt, spec in list(attempts.items())[2:]:
        executor.submit(attempt, spec)
    events += collect(executor, {"a2", "a3"})
    for k, attempt in enumerate(attempts):
        mine = [event for event in events if event.attempt == attempt]
        assert isinstance(mine[0], Started)
        assert [event.report.step for event in mine if isinstance(event, Reported)] == [0, 1, 2]
        assert isinstance(mine[-1], Finished)
        assert mine[-1].result.val_accuracy == pytest.approx(0.1 * k)
        assert len(ends(events, attempt)) == 1


def test_workers_are_reused_and_have_their_threads_limited(executor, make_spec, seed):
    pids = []
    for k in range(5):
        executor.submit(f"r{k}", make_spec(seed=seed + k))
        [end] = ends(collect(executor, {f"r{k}"}), f"r{k}")
        assert isinstance(end, Finished)
        assert end.result.trajectory[0]["threads"] == "1"
        pids.append(end.result.trajectory[0]["pid"])
    assert len(set(pids)) <= executor.capacity
    assert os.getpid() not in pids


def test_an_exception_is_a_failed_result_of_one_line(executor, make_spec, seed):
    executor.submit("wrong", make_spec(seed=seed, wrong=1))
    executor.submit("error", make_spec(seed=seed + 1, error=1))
    events = collect(executor, {"wrong", "error"})
    reasons = {event.attempt: event.result.reason for event in events if isinstance(event, Finished)}
    assert reasons == {
        "wrong": "budget flash = 1: smaller than anything",
        "error": "ZeroDivisionError: something broke",
    }


@pytest.mark.parametrize("hungry", [1, 2])
def test_a_worker_out_of_memory_says_so_and_lives_on(executor, make_spec, seed, hungry):
    executor.submit("hungry", make_spec(seed=seed, hungry=hungry))
    [end] = ends(collect(executor, {"hungry"}), "hungry")
    assert isinstance(end, Lost)
    assert end.reason is LossReason.OUT_OF_MEMORY


@pytest.mark.parametrize(("ill", "said"), [(1, "No space left on device"), (2, "cannot import name 'x'")])
def test_what_is_wrong_with_a_machine_is_no_result_of_the_trial(executor, make_spec, seed, ill, said):
    executor.submit("ill", make_spec(seed=seed, ill=ill))
    [end] = ends(collect(executor, {"ill"}), "ill")
    assert isinstance(end, Lost)
    assert end.reason is LossReason.ENVIRONMENT
    assert said in end.detail


def test_a_node_that_fails_three_in_a_row_is_named_once(executor, make_spec, seed):
    if isinstance(executor, LocalExecutor):
        pytest.skip("of Ray")
    told.clear()
    for k, ill in enumerate((0, 1, 1, 0, 1, 1, 1, 1)):  # after a success it is counted anew
        executor.submit(f"i{k}", make_spec(seed=seed + k, ill=ill))
        collect(executor, {f"i{k}"})
        assert len(told) == (k >= 6)
    [line] = told
    assert line.startswith(f"{socket.gethostname()} failed three trials in a row and gets no more: OSError: [Errno 28]")


def test_a_worker_the_system_killed_for_want_of_memory_is_told_from_one_that_died(
    artifacts, make_spec, seed, monkeypatch
):
    monkeypatch.setattr("orchestrator.executors.local._memory_is_short", lambda: True)
    with local(WorkerSetting("fake_worker:run_trial", str(artifacts), (str(FAKES),))) as executor:
        executor.submit("big", make_spec(seed=seed, deaths=1))
        [end] = ends(collect(executor, {"big"}), "big")
    assert isinstance(end, Lost)
    assert end.reason is LossReason.OUT_OF_MEMORY


def test_not_a_number_arrives_as_absent(executor, make_spec, seed):
    executor.submit("nan", make_spec(seed=seed, nan=1))
    [end] = ends(collect(executor, {"nan"}), "nan")
    assert isinstance(end, Finished)
    assert end.result.val_accuracy is None


def test_a_killed_worker_loses_only_its_own_attempt(executor, make_spec, seed):
    executor.submit("victim", make_spec(seed=seed, reports=1000, sleep=0.05))
    executor.submit("bystander", make_spec(seed=seed + 1, reports=4, sleep=0.2))
    events = collect(executor, {"victim"}, until=lambda e: isinstance(e, Started) and e.attempt == "victim")
    pid = next(event.pid for event in events if isinstance(event, Started) and event.attempt == "victim")
    os.kill(pid, signal.SIGKILL)
    done = {event.attempt for event in events if isinstance(event, Finished)}
    events += collect(executor, {"victim", "bystander"} - done)
    [lost] = ends(events, "victim")
    assert isinstance(lost, Lost)
    assert lost.reason is LossReason.WORKER_DIED
    [other] = ends(events, "bystander")
    assert isinstance(other, Finished)
    executor.submit("again", make_spec(seed=seed))
    assert isinstance(ends(collect(executor, {"again"}), "again")[0], Finished)


def test_a_stopped_attempt_ends_soon_in_state_stopped(executor, make_spec, seed):
    executor.submit("hopeless", make_spec(seed=seed, reports=10_000, sleep=0.05))
    collect(executor, {"hopeless"}, until=lambda event: isinstance(event, Reported))
    start = time.monotonic()
    executor.stop("hopeless")
    [end] = ends(collect(executor, {"hopeless"}), "hopeless")
    assert isinstance(end, Finished)
    assert end.result.state == "stopped"
    assert time.monotonic() - start < 100
    executor.stop("hopeless")
    executor.stop("never heard of")


def test_an_attempt_that_is_withdrawn_frees_its_worker(executor, make_spec, seed):
    executor.submit("slow", make_spec(seed=seed, sleep=600.0))
    [started] = collect(executor, {"slow"}, lambda event: isinstance(event, Started))[-1:]
    executor.withdraw("slow")
    executor.submit("next", make_spec(seed=seed + 1))
    [end] = ends(collect(executor, {"next"}), "next")
    assert isinstance(end, Finished)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{started.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{started.pid}").exists()


def test_ray_listens_on_every_interface_but_answers_only_those_who_have_its_token(executor):
    if isinstance(executor, LocalExecutor):
        pytest.skip("of Ray")
    import ray

    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)"
    command = [sys.executable, "-c", code, ray.get_runtime_context().gcs_address]
    for mode, answered in {"disabled": False, "token": True}.items():
        tried = subprocess.run(command, env=os.environ | {"RAY_AUTH_MODE": mode}, capture_output=True, text=True)
        assert (tried.returncode == 0) is answered, tried.stderr
        assert answered or "InvalidAuthToken" in tried.stderr


def test_shutdown_leaves_no_process(artifacts, make_spec, seed):
    executor = local(WorkerSetting("fake_worker:run_trial", str(artifacts), (str(FAKES),)))
    executor.submit("long", make_spec(seed=seed, reports=1000, sleep=0.1))
    events = collect(executor, {"long"}, until=lambda event: isinstance(event, Started))
    executor.shutdown()
    executor.shutdown()
    [started] = [event for event in events if isinstance(event, Started)]
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("trials", [1, 2, 3, 6, 7, 16, 64])
def test_shares_of_gpus_let_all_trials_run_at_once(gpus, trials):
    pytest.importorskip("ray")
    from orchestrator.executors.ray import even_gpu_share

    on_one = round(1 / even_gpu_share(gpus, trials))  # Ray keeps a share within one GPU
    assert gpus * on_one >= trials
    assert even_gpu_share(0, trials) == 0


def test_a_ray_address_nobody_listens_at_is_refused_at_once():
    from orchestrator.executors.ray_cluster import RayCluster

    start = time.monotonic()
    with pytest.raises(ExecutorError, match=r"--address 127\.0\.0\.1:9: no Ray cluster answers there"):
        RayCluster(1, "127.0.0.1:9")
    assert time.monotonic() - start < 100


def test_a_ray_that_does_not_start_is_tried_twice_and_told_in_one_line(monkeypatch):
    from orchestrator.executors import ray_cluster

    tries = []

    def refuse(**options):
        tries.append(options)
        raise RuntimeError("no room in the inn\nand more")

    monkeypatch.setattr(ray_cluster.ray, "init", refuse)
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda _: None)
    with pytest.raises(ExecutorError) as caught:
        ray_cluster.RayCluster(1)
    assert str(caught.value) == (
        "cannot start Ray on this machine, tried twice: RuntimeError: no room in the inn; "
        "`--executor local` works without Ray"
    )
    assert len(tries) == 2
    assert not any(options["include_dashboard"] for options in tries)
