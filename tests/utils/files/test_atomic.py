from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from resilience.errors import StorageFull
from utils.files.atomic import publish, remove_strays, replacing, require_free_space, temporary, write_atomically

PROJECT = Path(__file__).resolve().parents[3]
DAY_S = 86_400


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_a_written_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    write_atomically(path, b"new content")

    assert path.read_bytes() == b"new content"
    assert names(tmp_path) == ["a.wav"]


def test_a_file_that_is_being_written_has_not_its_name_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"

    with replacing(path) as file:
        file.write(b"half")
        assert not path.exists()

    assert path.read_bytes() == b"half"


def test_writing_that_is_given_up_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    def give_up() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.wav"]


def test_a_write_that_finds_no_room_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs POSIX limits")
    (tmp_path / "a.wav").write_bytes(b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from utils.files.atomic import write_atomically\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 5000)\n"
        "except OSError as error: print('refused', error.errno)\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.wav")], cwd=PROJECT, capture_output=True, text=True, check=True
    )

    assert run.stdout.startswith("refused")
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert names(tmp_path) == ["a.wav"]


def test_saving_is_refused_before_the_reserve_is_touched(tmp_path: Path) -> None:
    with pytest.raises(StorageFull):
        require_free_space(tmp_path, needed_bytes=1, reserve_bytes=10**18)


def test_a_file_can_be_given_its_name_after_it_was_written(tmp_path: Path) -> None:
    with temporary(tmp_path) as (file, half):
        file.write(b"whole")
        publish(file, half, tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == b"whole"

    assert names(tmp_path) == ["a.wav"]


def test_a_file_that_was_given_no_name_leaves_nothing(tmp_path: Path) -> None:
    with temporary(tmp_path) as (file, _):
        file.write(b"x" * 100_000)

    assert names(tmp_path) == []


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageFull), temporary(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert names(tmp_path) == []


DIES_WRITING = """
import os, sys
from pathlib import Path
from utils.files.atomic import temporary
with temporary(Path(sys.argv[1])) as (file, path):
    file.write(b"half"); file.flush()
    print(path.name, flush=True)
    if sys.argv[2] == "die": os._exit(9)
    sys.stdin.read()
"""


def writer(folder: Path, then: str) -> subprocess.Popen[str]:
    """Another process that has begun a file in `folder`, and then dies or lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_WRITING, str(folder), then],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(".tmp-")
    return process


def test_what_a_process_left_half_written_goes_as_soon_as_it_is_dead(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "finished.wav").write_bytes(b"x")
    with writer(tmp_path / "project", "die") as dead:
        dead.wait()

    assert remove_strays(tmp_path) == 1
    assert names(tmp_path / "project") == ["finished.wav"]


def test_what_another_living_process_writes_stays(tmp_path: Path) -> None:
    with writer(tmp_path, "live") as other:
        assert remove_strays(tmp_path) == 0
        assert len(names(tmp_path)) == 1
        other.communicate("")

    assert names(tmp_path) == []


def test_what_this_process_writes_stays_however_long_it_takes(tmp_path: Path) -> None:
    with temporary(tmp_path) as (_, path):
        os.utime(path, (time.time() - 10 * DAY_S,) * 2)

        assert remove_strays(tmp_path) == 0
        assert path.exists()


def test_what_a_dead_server_with_the_same_process_number_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".tmp-{os.getpid()}-{uuid.uuid4().hex}").write_bytes(b"half")

    assert remove_strays(tmp_path) == 1


def test_a_process_that_began_after_the_file_was_last_written_is_not_its_writer(tmp_path: Path) -> None:
    with writer(tmp_path, "live") as other:
        mine = next(tmp_path.iterdir())
        earlier = tmp_path / f".tmp-{other.pid}-{uuid.uuid4().hex}"
        earlier.write_bytes(b"half")
        os.utime(earlier, (time.time() - 3600,) * 2)

        assert remove_strays(tmp_path) == 1
        assert list(tmp_path.iterdir()) == [mine]
        other.communicate("")


def test_a_temporary_file_that_tells_no_process_goes_after_a_day(tmp_path: Path) -> None:
    old, young, finished = (tmp_path / name for name in (".tmp-old", ".tmp-young", "finished.wav"))
    for path in (old, young, finished):
        path.write_bytes(b"x")
    for path in (old, finished):
        os.utime(path, (time.time() - 2 * DAY_S,) * 2)

    assert remove_strays(tmp_path) == 1
    assert sorted(names(tmp_path)) == [".tmp-young", "finished.wav"]
