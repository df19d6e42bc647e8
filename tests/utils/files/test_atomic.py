from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resilience.errors import StorageFull
from utils.files.atomic import remove_strays, replacing, require_free_space, write_atomically


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

    project = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.wav")], cwd=project, capture_output=True, text=True, check=True
    )

    assert run.stdout.startswith("refused")
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert names(tmp_path) == ["a.wav"]


def test_saving_is_refused_before_the_reserve_is_touched(tmp_path: Path) -> None:
    with pytest.raises(StorageFull):
        require_free_space(tmp_path, needed_bytes=1, reserve_bytes=10**18)


def test_what_a_crash_left_half_written_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    old, young, finished = (tmp_path / "project" / name for name in (".tmp-old", ".tmp-young", "finished.wav"))
    for path in (old, young, finished):
        path.write_bytes(b"x")
    for path in (old, finished):
        os.utime(path, (time.time() - 7200,) * 2)

    assert remove_strays(tmp_path) == 1
    assert sorted(names(tmp_path / "project")) == [".tmp-young", "finished.wav"]
