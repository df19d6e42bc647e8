from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from management.libraries import Libraries
from resilience.errors import FileMissing, InvalidPath
from tests.management.sounds import MAX_BYTES, drop, found, tone


def add(libraries: Libraries, filename: str = "interview.wav", text: str = "", folder: str | None = None) -> None:
    libraries.vc_inputs.add(
        io.BytesIO(tone()), filename, folder=folder, overwrite=False, text=text, max_bytes=MAX_BYTES
    )


def test_a_recording_is_kept_with_the_words_that_are_said_in_it(libraries: Libraries) -> None:
    add(libraries, text="Grüß Gott, 東京", folder="a")

    [file] = found(libraries.vc_inputs.store, search="gruss").files
    assert file.relative == "a/interview.wav"
    assert file.about["text"] == "Grüß Gott, 東京"
    assert file.about["upload_date"] == file.created.isoformat()
    assert "quality" not in file.about


def test_a_person_may_add_the_words_by_hand(libraries: Libraries) -> None:
    store = libraries.vc_inputs.store
    drop(store.root / "one.wav", tone())
    drop(store.root / "one.wav.json", json.dumps({"text": "by hand"}).encode())

    store.rescan()

    assert [file.about["text"] for file in found(store, search="hand").files] == ["by hand"]


def test_recordings_to_convert_are_uploads_or_else_generated_files(libraries: Libraries) -> None:
    add(libraries, "same.wav")
    for name in ("same.wav", "folder/other.wav"):
        drop(libraries.outputs.store.root / name, tone())

    assert libraries.recordings.find("same.wav").relative == "vc_inputs/same.wav"
    assert libraries.recordings.find("folder/other.wav").relative == "outputs/folder/other.wav"


@pytest.mark.parametrize("name", ["same", "nothing.wav", "folder", "same.wav.json"])
def test_what_is_no_recording_is_not_found(libraries: Libraries, name: str) -> None:
    add(libraries, "same.wav", folder=None)
    add(libraries, "same.wav", folder="folder")

    with pytest.raises(FileMissing):
        libraries.recordings.find(name)


def test_a_path_out_of_the_libraries_is_refused(libraries: Libraries, tmp_path: Path) -> None:
    drop(tmp_path / "outside.wav", tone())
    (libraries.vc_inputs.store.root / "link.wav").symlink_to(tmp_path / "outside.wav")

    for name in ("../outside.wav", "link.wav"):
        with pytest.raises(InvalidPath):
            libraries.recordings.find(name)
