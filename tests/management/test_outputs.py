from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import StorageSettings
from management.outputs import Outputs
from resilience.errors import FileMissing, InvalidPath
from utils.audio.waveform import Waveform

SOUND = Waveform(np.full(2400, 0.1, np.float32), 24_000)


def save(outputs: Outputs, **changes: Any) -> list[Any]:
    asked: dict[str, Any] = {
        "generation_type": "tts",
        "name_parameters": ["temp0.75"],
        "folder": None,
        "formats": ["wav", "mp3"],
        "mp3_bitrate_kbps": 128,
        "companion": {"type": "tts"},
    }
    return outputs.save(SOUND, **{**asked, **changes})


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(StorageSettings(min_free_mb=0), tmp_path)


def files(root: Path) -> list[str]:
    return sorted(path.suffix for path in root.rglob("*") if path.is_file())


def test_a_generation_is_its_formats_and_one_companion_that_names_them(outputs: Outputs) -> None:
    saved = save(outputs, folder="a/b")

    assert files(outputs.root) == [".json", ".mp3", ".wav"]
    companion = json.loads(saved[0].path.with_suffix(".json").read_text())
    assert [file["filename"] for file in companion["files"]] == [file.path.name for file in saved]
    assert [file.relative for file in saved] == [f"a/b/{file.path.name}" for file in saved]
    assert outputs.find(saved[0].relative).size_bytes == saved[0].path.stat().st_size


def test_work_that_is_left_before_writing_leaves_nothing(outputs: Outputs) -> None:
    def leave() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        save(outputs, folder="new", check=leave)

    assert list(outputs.root.iterdir()) == []


def test_work_that_is_left_while_its_files_are_written_leaves_nothing(outputs: Outputs) -> None:
    calls = iter([None])

    def leave_at_the_second() -> None:
        if next(calls, InterruptedError) is InterruptedError:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        save(outputs, check=leave_at_the_second)

    assert files(outputs.root) == []


def test_only_audio_is_found(outputs: Outputs) -> None:
    saved = save(outputs)

    with pytest.raises(FileMissing):
        outputs.find(saved[0].path.with_suffix(".json").name)
    with pytest.raises(InvalidPath):
        outputs.find("../outside.wav")
