from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from management.libraries import Libraries
from management.stored import StoredFile
from management.voices import Voices
from resilience.errors import AmbiguousVoice, FileMissing, InvalidPath, NameTaken, VoiceNotFound
from tests.management.sounds import MAX_BYTES, at_once, drop, found, listed, on_disk, tone

DETAILS: dict[str, Any] = {
    "name": "Frühling",
    "description": "warm and slow",
    "tags": ["calm", "Deep"],
    "aliases": ["the narrator"],
    "default_parameters": {"temperature": 0.6},
}


@pytest.fixture
def voices(libraries: Libraries) -> Voices:
    return libraries.voices


def add(voices: Voices, relative: str = "anna.wav", **details: Any) -> StoredFile:
    folder, _, filename = relative.rpartition("/")
    return voices.add(
        io.BytesIO(tone()), filename, folder=folder or None, overwrite=False, details=details, max_bytes=MAX_BYTES
    )


def companion(voices: Voices, relative: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((voices.store.root / f"{relative}.json").read_text(encoding="utf-8"))
    return content


# Taking in


def test_a_voice_is_kept_with_what_is_said_of_it_and_how_good_it_is(voices: Voices) -> None:
    file = add(voices, **DETAILS)

    assert {name: companion(voices, "anna.wav")[name] for name in DETAILS} == DETAILS
    assert companion(voices, "anna.wav")["quality"] == file.about["quality"]
    assert file.about["quality"]["advice"]
    assert (file.usage_count, file.last_used) == (0, None)


# Finding


@pytest.fixture
def library(voices: Voices) -> Voices:
    for relative in ("anna.wav", "ben.MP3", "narrators/dr. früh.flac", "narrators/carla.wav", "a b/東京.ogg"):
        drop(voices.store.root / relative, tone())
    drop(voices.store.root / "narrators" / "notes.txt", b"no voice")
    add(voices, "folder/x17.wav", **DETAILS)
    voices.store.rescan()
    return voices


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("anna.wav", "anna.wav"),
        ("anna", "anna.wav"),
        ("Anna", "anna.wav"),
        ("ANNA.WAV", "anna.wav"),
        ("ben", "ben.MP3"),
        ("narrators/dr. früh", "narrators/dr. früh.flac"),
        ("narrators/dr. fru\u0308h.flac", "narrators/dr. früh.flac"),
        ("dr. früh", "narrators/dr. früh.flac"),
        ("Dr. Fruh.flac", "narrators/dr. früh.flac"),
        ("carla", "narrators/carla.wav"),
        ("東京", "a b/東京.ogg"),
        ("a b/東京.ogg", "a b/東京.ogg"),
        ("x17", "folder/x17.wav"),
        ("Frühling", "folder/x17.wav"),
        ("FRUHLING", "folder/x17.wav"),
        ("the narrator", "folder/x17.wav"),
        ("The  Narrator", "folder/x17.wav"),
    ],
)
def test_a_voice_is_found_by_each_of_its_names(library: Voices, name: str, relative: str) -> None:
    voice = library.find(name)

    assert voice is not None
    assert voice.relative == relative
    assert voice.path == library.store.root / relative
    assert library.get(name).content_hash == voice.content_hash


@pytest.mark.parametrize(
    "name", ["ann", "narrators", "narrators/notes.txt", "anna.mp3", "other/anna", "anna.wav.json", "warm and slow"]
)
def test_what_is_no_voice_is_not_found(library: Voices, name: str) -> None:
    assert library.find(name) is None
    with pytest.raises(VoiceNotFound):
        library.get(name)


def test_a_name_with_what_paths_may_not_have_is_a_name_all_the_same(voices: Voices) -> None:
    add(voices, name='Dr. "Strange": 2*')

    assert voices.get('Dr. "Strange": 2*').relative == "anna.wav"


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/passwd", "a\0b", "..", "a:b"])
def test_what_is_neither_a_name_nor_a_path_is_refused(library: Voices, name: str) -> None:
    with pytest.raises(InvalidPath):
        library.find(name)


def test_a_link_that_leads_out_is_refused_under_its_short_name_too(voices: Voices, tmp_path: Path) -> None:
    (voices.store.root / "link.flac").symlink_to(drop(tmp_path / "outside.flac", tone()))

    for name in ("link.flac", "link"):
        with pytest.raises(InvalidPath):
            voices.find(name)


def test_a_path_goes_before_a_name_a_name_before_an_alias_and_an_alias_before_a_file_elsewhere(voices: Voices) -> None:
    order = []
    add(voices, "far/anna.wav")
    order.append(voices.get("anna").relative)
    drop(voices.store.root / "b.wav", tone())
    drop(voices.store.root / "b.wav.json", b'{"aliases": ["anna"]}')
    voices.store.rescan()
    order.append(voices.get("anna").relative)
    drop(voices.store.root / "c.wav", tone())
    drop(voices.store.root / "c.wav.json", b'{"name": "Anna"}')
    voices.store.rescan()
    order.append(voices.get("anna").relative)
    drop(voices.store.root / "anna.wav", tone())
    order.append(voices.get("anna").relative)

    assert order == ["far/anna.wav", "b.wav", "c.wav", "anna.wav"]


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (("anna.wav", {}), ("anna.mp3", {}), "anna"),
        (("a/anna.wav", {}), ("b/anna.wav", {}), "anna"),
        (("a/anna.wav", {}), ("b/anna.wav", {}), "anna.wav"),
        (("a.wav", {"name": "Anna"}), ("b.wav", {"name": "ANNA"}), "anna"),
    ],
)
def test_a_name_that_may_mean_several_voices_is_refused_with_them(
    voices: Voices, first: tuple[str, Mapping[str, Any]], second: tuple[str, Mapping[str, Any]], name: str
) -> None:
    for relative, details in (first, second):
        add(voices, relative, **details)

    with pytest.raises(AmbiguousVoice) as failure:
        voices.find(name)

    assert sorted(failure.value.detail[0]["candidates"]) == sorted([first[0], second[0]])


def test_a_voice_that_was_just_removed_makes_no_name_ambiguous(voices: Voices) -> None:
    add(voices, "a/anna.wav").path.unlink()
    add(voices, "b/anna.wav")

    assert voices.get("anna").relative == "b/anna.wav"


def test_a_near_miss_names_what_was_probably_meant(library: Voices) -> None:
    assert library.close_matches("ana", ["clara"]) == ["anna.wav"]
    assert library.close_matches("clarra", ["clara"])[0] == "clara"
    assert library.close_matches("dr fruh") == ["narrators/dr. früh.flac"]
    with pytest.raises(VoiceNotFound) as failure:
        library.get("narators/carla")
    assert failure.value.detail["close_matches"][0] == "narrators/carla.wav"
    assert "narrators/carla.wav" in failure.value.message


# Changing


def test_what_is_not_named_stays_and_none_clears(voices: Voices) -> None:
    before = add(voices, **DETAILS)

    changed = voices.change("anna", {"description": "new", "tags": None, "default_parameters": None})

    assert changed.about["description"] == "new"
    assert changed.description.tags == []
    assert changed.about["default_parameters"] == {}
    assert changed.description.aliases == ["the narrator"]
    assert changed.description.name == "Frühling"
    assert "tags" not in companion(voices, "anna.wav")
    assert changed.created == before.created
    assert changed.content_hash == before.content_hash
    assert changed.about["quality"] == before.about["quality"]


def test_cleared_details_are_searched_no_more(voices: Voices) -> None:
    add(voices, **DETAILS)

    voices.change("anna", dict.fromkeys(("name", "description", "tags", "aliases")))

    for words in ("warm", "calm", "narrator", "fruhling"):
        assert listed(voices.store, search=words) == []
    assert listed(voices.store, tag="deep") == []
    assert voices.find("the narrator") is None


def test_what_a_person_added_to_a_companion_stays(voices: Voices) -> None:
    add(voices)
    content = companion(voices, "anna.wav")
    drop(voices.store.root / "anna.wav.json", json.dumps({**content, "licence": "CC0"}).encode())

    voices.change("anna", {"description": "new"})

    assert companion(voices, "anna.wav")["licence"] == "CC0"


def test_a_voice_moves_with_its_companion_and_back_to_the_root(voices: Voices) -> None:
    add(voices, **DETAILS)

    moved = voices.change("anna", {"folder_path": "a b/früh", "description": "moved"})

    assert moved.relative == "a b/früh/anna.wav"
    assert on_disk(voices.store.root) == ["a b/früh/anna.wav", "a b/früh/anna.wav.json"]
    assert voices.get("the narrator").about["description"] == "moved"
    assert voices.change("anna", {"folder_path": None}).relative == "anna.wav"
    assert on_disk(voices.store.root) == ["anna.wav", "anna.wav.json"]
    assert [(folder.path, folder.count) for folder in voices.store.folders()] == [("", 1), ("a b", 0), ("a b/früh", 0)]


def test_a_voice_is_not_moved_onto_another(voices: Voices) -> None:
    add(voices, description="first")
    add(voices, "a/anna.wav", description="second")

    with pytest.raises(NameTaken):
        voices.change("anna.wav", {"folder_path": "a"})
    with pytest.raises(InvalidPath):
        voices.change("anna.wav", {"folder_path": "../out"})

    assert [file.about["description"] for file in found(voices.store, sort_by="created_date").files] == [
        "first",
        "second",
    ]


def test_a_move_to_where_the_voice_is_changes_nothing(voices: Voices) -> None:
    add(voices, "a/anna.wav", **DETAILS)

    assert voices.change("anna", {"folder_path": "a"}).relative == "a/anna.wav"
    assert on_disk(voices.store.root) == ["a/anna.wav", "a/anna.wav.json"]


def test_an_alias_means_one_voice(voices: Voices) -> None:
    add(voices, "anna.wav", aliases=["Chef"], name="The One")
    add(voices, "ben.wav")

    for alias in ("chef", "CHÉF", "the one"):
        with pytest.raises(NameTaken) as failure:
            voices.change("ben", {"aliases": [alias]})
        assert failure.value.detail["voice"] == "anna.wav"
        with pytest.raises(NameTaken):
            add(voices, "carla.wav", aliases=[alias])
    assert listed(voices.store) == ["ben.wav", "anna.wav"]


def test_an_alias_is_not_what_another_voice_is_found_by_already(voices: Voices) -> None:
    add(voices, "a/anna.wav")

    with pytest.raises(NameTaken):
        add(voices, "ben.wav", aliases=["Anna"])
    with pytest.raises(NameTaken):
        add(voices, "ben.wav", aliases=["anna.wav"])


def test_a_voice_keeps_its_aliases_when_they_are_said_again(voices: Voices) -> None:
    add(voices, aliases=["chef"])

    assert voices.change("anna", {"aliases": ["chef", "boss"]}).description.aliases == ["chef", "boss"]


def test_of_several_voices_that_ask_for_one_alias_at_once_one_gets_it(voices: Voices) -> None:
    for number in range(6):
        add(voices, f"v{number}.wav")

    outcomes = at_once(6, lambda number: voices.change(f"v{number}", {"aliases": ["boss"]}))

    assert [type(outcome) for outcome in outcomes].count(NameTaken) == 5
    assert voices.find("boss") is not None


def test_quality_is_measured_anew_and_kept(voices: Voices) -> None:
    file = add(voices, **DETAILS)
    content = companion(voices, "anna.wav")
    drop(file.path.with_name("anna.wav.json"), json.dumps({**content, "quality": {"rating": "odd"}}).encode())

    judged = voices.judge("the narrator")

    assert judged.about["quality"] == file.about["quality"]
    assert companion(voices, "anna.wav")["quality"] == file.about["quality"]
    assert voices.get("anna").about["quality"] == file.about["quality"]


# Use


def test_every_use_is_counted_though_many_come_at_once(voices: Voices) -> None:
    file = add(voices, **DETAILS)

    def use(_: int) -> None:
        for _ in range(5):
            voices.record_use("anna.wav", "")

    at_once(8, use)

    used = voices.get("anna")
    assert used.usage_count == companion(voices, "anna.wav")["usage_count"] == 40
    assert used.last_used is not None
    assert used.last_used > file.created
    assert used.about["description"] == DETAILS["description"]


def test_uses_of_a_voice_that_somebody_changes_meanwhile_lose_neither(voices: Voices) -> None:
    add(voices)

    def work(number: int) -> None:
        for turn in range(5):
            if number:
                voices.record_use("anna.wav", "")
            else:
                voices.change("anna", {"description": str(turn)})

    at_once(3, work)

    assert voices.get("anna").usage_count == 10
    assert voices.get("anna").about["description"] == "4"


def test_a_use_of_a_voice_that_is_gone_harms_nobody(voices: Voices) -> None:
    voices.record_use("nobody.wav", "")
    voices.record_use("../outside.wav", "")

    assert on_disk(voices.store.root) == []


# Removing


def test_only_the_exact_path_is_deleted(voices: Voices) -> None:
    add(voices, "a/anna.wav", aliases=["chef"])

    for name in ("anna.wav", "anna", "a/anna", "chef"):
        with pytest.raises(FileMissing):
            voices.store.delete(name)

    assert voices.store.delete("a/anna.wav") == ["a/anna.wav"]


# Made through OpenAI's API


def test_a_voice_that_was_made_answers_to_its_id(voices: Voices) -> None:
    made = voices.create(io.BytesIO(tone()), "Anna", consent="cons_1", max_bytes=MAX_BYTES)

    identity = made.about["voice_id"]
    assert companion(voices, "Anna.wav")["voice_id"] == identity
    assert companion(voices, "Anna.wav")["consent"] == "cons_1"
    assert voices.get(identity).relative == "Anna.wav"
    assert voices.change("Anna", {"name": "Maria", "aliases": None, "folder_path": "a"}).about["voice_id"] == identity
    assert voices.get(identity).relative == "a/Anna.wav"


def test_names_that_would_be_one_file_are_two_voices(voices: Voices) -> None:
    made = [
        voices.create(io.BytesIO(tone()), name, consent=None, max_bytes=MAX_BYTES)
        for name in ("Anna!", "Anna?", "Анна")
    ]

    assert made[0].relative == "Anna.wav"
    assert [file.relative for file in made[1:]] == [f"{file.about['voice_id']}.wav" for file in made[1:]]
    assert [voices.get(file.description.name).relative for file in made] == [file.relative for file in made]


def test_two_that_are_made_at_once_by_one_name_are_one(voices: Voices) -> None:
    def create(_: int) -> StoredFile:
        return voices.create(io.BytesIO(tone()), "Anna", consent=None, max_bytes=MAX_BYTES)

    results = at_once(4, create)

    assert sum(isinstance(result, StoredFile) for result in results) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 3


def test_only_what_was_made_is_removed_by_its_id(voices: Voices) -> None:
    add(voices, aliases=["voice_mine"])
    made = voices.create(io.BytesIO(tone()), "Ben", consent=None, max_bytes=MAX_BYTES)

    for name in ("voice_mine", "anna", "anna.wav", "Ben"):
        with pytest.raises(FileMissing):
            voices.remove_created(name)
    voices.remove_created(made.about["voice_id"])

    assert on_disk(voices.store.root) == ["anna.wav", "anna.wav.json"]
