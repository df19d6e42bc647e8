from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resilience.errors import StorageFull
from utils.files.atomic import require_free_space, write_atomically


def test_a_written_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    write_atomically(path, b"new content")

    assert path.read_bytes() == b"new content"
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


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
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_saving_is_refused_before_the_reserve_is_touched(tmp_path: Path) -> None:
    with pytest.raises(StorageFull):
        require_free_space(tmp_path, needed_bytes=1, reserve_bytes=10**18)
