from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from management.voices import Voices
from resilience.errors import InvalidPath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "voices"
    for name in ("anna.wav", "ben.MP3", "narrators/dr. früh.flac", "narrators/notes.txt", "old.ogg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("anna.wav", "anna.wav"),
        ("anna", "anna.wav"),
        ("ben", "ben.MP3"),
        ("narrators/dr. früh", "narrators/dr. früh.flac"),
        ("narrators/dr. fru\u0308h.flac", "narrators/dr. früh.flac"),
    ],
)
def test_a_voice_is_found_by_its_path_with_or_without_extension(root: Path, name: str, file: str) -> None:
    voice = Voices(root).find(name)

    assert voice is not None
    assert voice.relative == file
    assert voice.content_hash == hashlib.sha256(file.encode()).hexdigest()


@pytest.mark.parametrize("name", ["ann", "narrators", "narrators/notes.txt", "anna.mp3", "dr. früh"])
def test_what_is_no_voice_is_not_found(root: Path, name: str) -> None:
    assert Voices(root).find(name) is None


def test_a_near_miss_names_what_was_probably_meant(root: Path) -> None:
    voices = Voices(root)

    assert voices.close_matches("ana", ["clara"]) == ["anna.wav"]
    assert voices.close_matches("clarra", ["clara"]) == ["clara"]


def test_a_file_put_in_the_place_of_another_is_heard(root: Path) -> None:
    voices = Voices(root)
    path = root / "voices" / "anna.wav"
    before, times = voices.find("anna"), path.stat()

    path.write_bytes(b"ANNA.wav")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    after = voices.find("anna")
    assert before is not None
    assert after is not None
    assert after.content_hash != before.content_hash


def test_a_link_that_leads_out_is_refused_under_its_short_name_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.flac").write_bytes(b"outside")
    (root / "voices" / "link.flac").symlink_to(tmp_path / "outside.flac")

    for name in ("link.flac", "link"):
        with pytest.raises(InvalidPath):
            Voices(root).find(name)


def test_a_path_out_of_the_library_is_refused(root: Path) -> None:
    with pytest.raises(InvalidPath):
        Voices(root).find("../outside.wav")
