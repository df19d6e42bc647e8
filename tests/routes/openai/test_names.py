"""Which voice a name means: the order in which it is looked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.base import EngineInfo, ModelInfo
from management.libraries import Libraries
from resilience.errors import AmbiguousVoice, ModelNotFound, VoiceNotFound
from routes.openai.names import OPENAI_VOICES, find_model, find_voice, lost_names, model_names
from tests.management.sounds import MAX_BYTES, opened, tone


def model(name: str = "turbo", voices: tuple[str, ...] = ("default", "clara")) -> ModelInfo:
    return ModelInfo(
        name=name,
        sample_rate=24_000,
        voices=voices,
        languages=("en",),
        takes=frozenset(),
        same_when_early=True,
        clones_voices=True,
        converts=True,
        watermarks=False,
        chunk_characters=300,
        needs_listening=False,
    )


@pytest.fixture
def libraries(tmp_path: Path) -> Iterator[Libraries]:
    made = opened(tmp_path)
    yield made
    made.close()


def add(libraries: Libraries, relative: str, **details: Any) -> None:
    folder, _, filename = relative.rpartition("/")
    libraries.voices.add(
        io.BytesIO(tone()), filename, folder=folder or None, overwrite=False, details=details, max_bytes=MAX_BYTES
    )


def found(libraries: Libraries, name: str, mapped: dict[str, str] | None = None, default: str | None = None) -> str:
    return find_voice(name, model(), libraries.voices, mapped or {}, default)


# Voices


def test_each_way_to_name_a_voice_goes_before_the_next_one(libraries: Libraries) -> None:
    """One name that all of them answer to; the winner is taken away each time."""
    mapped = {"nova": "narrators/other.wav"}
    ways = ["nova.wav", "narrators/named.wav", "narrators/called.wav", "narrators/nova.wav"]
    add(libraries, "narrators/other.wav")
    add(libraries, "nova.wav")
    add(libraries, "narrators/named.wav", name="nova")
    add(libraries, "narrators/nova.wav")
    with_alias = libraries.voices.store.root / "narrators" / "called.wav"  # by hand: no upload may take the alias
    with_alias.write_bytes(tone())
    with_alias.with_name("called.wav.json").write_text('{"aliases": ["nova"]}', encoding="utf-8")
    libraries.voices.store.rescan()

    order = []
    for _ in ways:
        order.append(found(libraries, "nova", mapped))
        libraries.voices.store.delete(order[-1])

    assert order == ways
    assert found(libraries, "nova", mapped) == "narrators/other.wav"
    assert found(libraries, "nova") in model().voices


def test_a_voice_that_was_made_through_the_api_is_found_by_its_id(libraries: Libraries) -> None:
    made = libraries.voices.create(io.BytesIO(tone()), "Anna Maria", consent=None, max_bytes=MAX_BYTES)

    assert found(libraries, made.about["voice_id"]) == "Anna-Maria.wav"
    assert found(libraries, "anna maria") == "Anna-Maria.wav"


def test_a_recording_goes_before_a_voice_of_the_engine_by_the_same_name(libraries: Libraries) -> None:
    assert found(libraries, "clara") == "clara"

    add(libraries, "narrators/clara.wav")

    assert found(libraries, "clara") == "narrators/clara.wav"


def test_names_of_openai_that_nobody_mapped_are_dealt_out_among_the_engines_voices(libraries: Libraries) -> None:
    dealt = [found(libraries, name) for name in OPENAI_VOICES]

    assert dealt == [found(libraries, name) for name in OPENAI_VOICES]
    assert set(dealt) == {"default", "clara"}
    assert found(libraries, "alloy") != found(libraries, "ash")


def test_the_default_voice_of_the_server_is_the_first_of_them(libraries: Libraries) -> None:
    assert found(libraries, "alloy", default="narrators/anna.wav") == "narrators/anna.wav"
    assert {found(libraries, name, default="anna") for name in OPENAI_VOICES} == {"anna", "default", "clara"}
    assert [found(libraries, name, default="clara") for name in OPENAI_VOICES[:3]] == ["clara", "default", "clara"]


def test_a_name_that_is_mapped_to_nobody_is_not_taken_for_another_voice(libraries: Libraries) -> None:
    with pytest.raises(VoiceNotFound, match="nova is the voice gone"):
        found(libraries, "nova", {"nova": "gone"})


def test_names_that_the_settings_map_to_no_single_voice_are_lost(libraries: Libraries) -> None:
    add(libraries, "narrators/anna.wav")
    for folder in ("a", "b"):
        add(libraries, f"{folder}/ben.wav")
    mapped = {"alloy": "anna", "nova": "clara", "clara": "gone", "onyx": "gone", "echo": "ben", "sage": "../x"}

    assert lost_names(model(), libraries.voices, mapped) == ["onyx", "echo", "sage"]


def test_what_several_voices_answer_to_is_not_guessed(libraries: Libraries) -> None:
    add(libraries, "a/anna.wav")
    add(libraries, "b/anna.wav")

    with pytest.raises(AmbiguousVoice) as raised:
        found(libraries, "anna")

    assert raised.value.detail[0]["loc"] == ["body", "voice"]


@pytest.mark.parametrize("name", ["nobody", "../nobody", "CON", "a\\b", "nul\u0000"])
def test_what_is_no_voice_is_not_found(libraries: Libraries, name: str) -> None:
    with pytest.raises(VoiceNotFound, match="/v1/audio/voices"):
        found(libraries, name)


# Models


ENGINE = EngineInfo("chatterbox", "cpu", (model("nano"), model("turbo")), 1)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("turbo", "turbo"),
        ("chatterbox-turbo", "turbo"),
        ("chatterbox", "nano"),
        ("tts-1", "nano"),
        ("tts-1-hd", "turbo"),
        ("ResembleAI/fast", "turbo"),
    ],
)
def test_a_model_has_several_names(name: str, meant: str) -> None:
    aliases = {"tts-1": None, "tts-1-hd": "chatterbox-turbo", "ResembleAI/fast": "turbo"}

    assert find_model(name, ENGINE, aliases).name == meant


@pytest.mark.parametrize("name", ["tts-1", "Turbo", "embedded-espeak-world", ""])
def test_other_names_mean_no_model(name: str) -> None:
    with pytest.raises(ModelNotFound):
        find_model(name, ENGINE, {"tts-1": "multilingual"})


def test_an_alias_of_a_model_that_cannot_be_had_is_not_listed() -> None:
    names = list(model_names(ENGINE, {"tts-1": None, "tts-1-hd": "multilingual"}))

    assert names == ["chatterbox-nano", "chatterbox-turbo", "tts-1"]
