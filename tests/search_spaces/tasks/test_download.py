import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mcu.errors import InputError
from orchestrator.cli import main as cli
from search_spaces.choices import TaskChoice
from search_spaces.tasks import download as module
from search_spaces.tasks import load_task
from search_spaces.tasks.download import PUBLISHED, Published, Remote, contents_digest, download, downloaded, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and server.ranges else 0
        server.starts.append(start)
        if start >= len(content) and start:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if server.breaks and (most := server.breaks.pop(0)) is not None:
            body = body[:most]
        self.wfile.write(body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.starts, server.breaks, server.ranges, server.lengths = {}, [], [], True, True
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def offered(server, content=CONTENT, checksum=None, name="data.bin"):
    server.files[f"/{name}"] = content
    return Remote(f"{server.url}/{name}", checksum or f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


def silent(name, here, total):
    pass


def test_a_file_is_fetched_once(server, tmp_path):
    remote, told = offered(server), []
    fetch(remote, tmp_path / "data.bin", lambda *given: told.append(given))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert told[-1] == ("data.bin", len(CONTENT), len(CONTENT))
    fetch(remote, tmp_path / "data.bin", silent)
    assert server.starts == [0]


def test_a_broken_transfer_goes_on_by_itself(server, tmp_path):
    server.breaks = [100_000, 50_000, None]
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert server.starts == [0, 100_000, 150_000]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert not (tmp_path / "data.bin.part").exists()


def test_a_transfer_that_keeps_breaking_is_told_and_the_next_run_goes_on(server, tmp_path):
    server.breaks = [120_000] + [0] * module.ATTEMPTS
    with pytest.raises(
        InputError, match=r"broke off at 120,000 bytes .*: the same command resumes from there"
    ) as caught:
        fetch(offered(server), tmp_path / "data.bin", silent)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data.bin").exists()
    server.starts.clear()
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert server.starts == [120_000]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:777])
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_of_another_version_is_thrown_away(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"older" * 1000)
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert server.starts == [5000, 0]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_whole_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_names_no_length_is_believed_by_the_checksum(server, tmp_path):
    server.lengths = False
    fetch(offered(server), tmp_path / "data.bin", silent)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path, kind):
    remote = offered(server, checksum=f"{kind}:{'0' * 32}")
    with pytest.raises(InputError, match=rf"has {kind.upper()} \w+, the published file has 0+: not kept"):
        fetch(remote, tmp_path / "data.bin", silent)
    assert not list(tmp_path.glob("data.bin*"))


def test_a_server_that_refuses_is_named_in_one_line(server, tmp_path):
    with pytest.raises(InputError, match="/none: the server answers 404") as caught:
        fetch(Remote(f"{server.url}/none", "md5:0"), tmp_path / "none", silent)
    assert "\n" not in str(caught.value)


def test_without_network_one_line_says_what_to_do(server, tmp_path, monkeypatch, capsys):
    dead = Remote("http://127.0.0.1:9/data.bin", "md5:0")
    monkeypatch.setitem(PUBLISHED, "cifar10", Published((dead,), "1 MB"))
    assert cli.run(["tasks", "--download", "cifar10"]) == 2
    error = capsys.readouterr().err.strip()
    assert "cannot be reached" in error
    assert "--set task.data=DIR" in error
    assert len(error.splitlines()) == 1


def test_a_task_that_has_no_download_is_refused(capsys):
    assert cli.run(["tasks", "--download", "watch"]) == 2
    assert "can be downloaded are fashion-mnist, cifar10, keywords, spoken-digits" in capsys.readouterr().err


def archive(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
            else:
                entry.size = len(data)
            tar.addfile(entry, None if isinstance(data, str) else io.BytesIO(data))
    return content.getvalue()


def publish_archive(server, monkeypatch, task, members, contents=""):
    remote = offered(server, archive(members), name="data.tar.gz")
    remote = Remote(remote.url, "" if contents else f"md5:{hashlib.md5(archive(members)).hexdigest()}")
    content = server.files["/data.tar.gz"]
    if not contents:
        remote = Remote(remote.url, f"md5:{hashlib.md5(content).hexdigest()}")
    monkeypatch.setitem(PUBLISHED, task, Published((remote,), "1 MB", (".wav", ".txt"), contents))


def test_downloaded_recordings_are_found_without_being_named(server, monkeypatch, tmp_path, write, capsys):
    folder = write["digits"](tmp_path / "wavs", takes=2)
    members = {f"set-26eb9aa/recordings/{path.name}": path.read_bytes() for path in folder.iterdir()}
    publish_archive(
        server, monkeypatch, "spoken-digits", members | {"set-26eb9aa/run.py": b"no"}, contents_digest(folder)
    )
    monkeypatch.setattr("search_spaces.audio.spoken_digits.PLACES", ())
    with pytest.raises(InputError, match="mcusweep tasks --download spoken-digits"):
        load_task(TaskChoice(name="spoken-digits"))
    server.breaks = [5000]
    assert cli.run(["tasks", "--download", "spoken-digits"]) == 0
    assert capsys.readouterr().out.strip() == str(downloaded("spoken-digits"))
    task = load_task(TaskChoice(name="spoken-digits", options={"copies": 1}))
    assert task.counts()["test"] == [2] * 10
    assert {path.suffix for path in downloaded("spoken-digits").iterdir()} == {".wav"}
    server.starts.clear()
    download("spoken-digits", silent)
    assert server.starts == []


def test_an_archive_of_other_recordings_is_not_kept(server, monkeypatch):
    publish_archive(server, monkeypatch, "spoken-digits", {"set/recordings/0_a_0.wav": b"other"}, "0" * 64)
    with pytest.raises(InputError, match="its files are not the published ones: not kept"):
        download("spoken-digits", silent)
    assert not downloaded("spoken-digits").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt"])
def test_an_archive_cannot_write_outside_its_folder(server, monkeypatch, tmp_path, name):
    publish_archive(server, monkeypatch, "keywords", {"yes/0.wav": b"1", name: b"harm"})
    with pytest.raises(InputError, match="is not the published archive"):
        download("keywords", silent)
    assert not list(tmp_path.rglob("outside.txt"))
    assert not downloaded("keywords").exists()


def test_links_in_an_archive_are_left_out(server, monkeypatch):
    publish_archive(server, monkeypatch, "keywords", {"yes/0.wav": b"1", "yes/1.wav": "/etc/passwd"})
    folder = download("keywords", silent)
    assert [path.name for path in (folder / "yes").iterdir()] == ["0.wav"]


def test_a_full_disk_is_named(server, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "cifar10", Published((offered(server),), "1 MB"))

    def full(*_):
        raise OSError(28, "No space left on device", "data.bin.part")

    monkeypatch.setattr(module, "_receive", full)
    with pytest.raises(InputError, match=r"data.bin.part: no space left on the disk; what is there is kept"):
        download("cifar10", silent)


def test_every_published_file_has_a_checksum_of_its_kind():
    for task, published in PUBLISHED.items():
        for remote in published.files:
            kind, _, value = remote.checksum.partition(":")
            assert len(value) == {"md5": 32, "sha256": 64, "": 0}[kind], task
            assert remote.checksum or len(published.contents) == 64, task
