from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from management.voices import Voices
from resilience.errors import InvalidPath, VoiceNotFound


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

    assert voice.relative == file
    assert voice.content_hash == hashlib.sha256(file.encode()).hexdigest()


@pytest.mark.parametrize("name", ["ann", "narrators", "narrators/notes.txt", "anna.mp3", "dr. früh"])
def test_what_is_no_voice_is_not_found(root: Path, name: str) -> None:
    with pytest.raises(VoiceNotFound, match=name.split("/", maxsplit=1)[0]):
        Voices(root).find(name)


def test_a_near_miss_names_what_was_probably_meant(root: Path) -> None:
    with pytest.raises(VoiceNotFound) as miss:
        Voices(root).find("ana")

    assert miss.value.detail == {"voice": "ana", "close_matches": ["anna.wav"]}


def test_a_file_put_in_the_place_of_another_is_heard(root: Path) -> None:
    voices = Voices(root)
    before = voices.find("anna").content_hash

    (root / "voices" / "anna.wav").write_bytes(b"another recording")

    assert voices.find("anna").content_hash != before


def test_a_path_out_of_the_library_is_refused(root: Path) -> None:
    with pytest.raises(InvalidPath):
        Voices(root).find("../outside.wav")
