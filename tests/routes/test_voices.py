from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.libraries import QUALITY, VOICES, code, faults, metadata, upload_voice
from tests.serving import Server


@pytest.fixture
def word() -> str:
    """A name that no other test uses, in this folder or any other."""
    return f"v{uuid4().hex}"


def change(client: httpx.Client, voice: str, /, **fields: Any) -> httpx.Response:
    return client.put(f"/api/v1/voice/{voice}/metadata", json=fields)


# Changes


def test_only_what_is_named_changes_and_null_clears(client: httpx.Client, word: str) -> None:
    upload_voice(client, f"{word}.wav", name="Anna", description="old", tags="a,b", default_parameters='{"seed": 5}')

    changed = metadata(change(client, f"{word}.wav", description="new", tags=["c"], aliases=[f"{word}-x"]))
    assert (changed["name"], changed["description"], changed["tags"]) == ("Anna", "new", ["c"])
    assert (changed["default_parameters"], changed["aliases"]) == ({"seed": 5}, [f"{word}-x"])

    nulls = dict.fromkeys(("name", "description", "tags", "aliases", "default_parameters"))
    cleared = metadata(change(client, f"{word}.wav", **nulls))
    assert (cleared["name"], cleared["description"], cleared["tags"]) == (word, None, [])
    assert (cleared["aliases"], cleared["default_parameters"]) == ([], {})


def test_a_voice_moves_with_its_companion(client: httpx.Client, server: Server, word: str) -> None:
    upload_voice(client, f"{word}.wav", description="moves along")

    moved = metadata(change(client, f"{word}.wav", folder_path=f"{word}/größe"))
    root = server.data_dir / "voices"
    assert (moved["url"], moved["description"]) == (f"{word}/größe/{word}.wav", "moves along")
    assert {path.name for path in (root / word / "größe").iterdir()} == {f"{word}.wav", f"{word}.wav.json"}
    assert not (root / f"{word}.wav").exists()
    assert not (root / f"{word}.wav.json").exists()

    back = metadata(change(client, f"{word}/größe/{word}.wav", project=None))
    assert (back["url"], back["folder_path"]) == (f"{word}.wav", None)


def test_a_voice_does_not_move_over_another(client: httpx.Client, word: str) -> None:
    upload_voice(client, f"{word}.wav")
    upload_voice(client, f"{word}.wav", folder_path=word)

    assert code(change(client, f"{word}.wav", folder_path=word)) == (409, "FILE_EXISTS")
    assert code(change(client, f"{word}.wav", folder_path="../x")) == (400, "INVALID_PATH")


def test_an_alias_belongs_to_one_voice(client: httpx.Client, word: str) -> None:
    upload_voice(client, f"{word}1.wav", aliases=f"{word} É")
    upload_voice(client, f"{word}2.wav")

    assert code(change(client, f"{word}2.wav", aliases=[f"{word} e"])) == (409, "FILE_EXISTS")
    assert code(upload_voice(client, f"{word}3.wav", aliases=f"{word} é")) == (409, "FILE_EXISTS")
    assert change(client, f"{word}1.wav", aliases=[f"{word} É", f"{word} more"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, []),
        ({"nmae": "x"}, ["nmae"]),
        ({"name": ""}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"description": "x" * 5001}, ["description"]),
        ({"description": "bell\a"}, ["description"]),
        ({"tags": "a,b"}, ["tags"]),
        ({"tags": [" "]}, ["tags", 0]),
        ({"tags": [str(n) for n in range(51)]}, ["tags"]),
        ({"aliases": ["x" * 101]}, ["aliases", 0]),
        ({"default_parameters": {"seed": -1}}, ["default_parameters", "seed"]),
        ({"default_parameters": {"nothing": 1}}, ["default_parameters", "nothing"]),
        ({"folder_path": "a", "folder": "b"}, []),
    ],
)
def test_a_change_that_is_wrong_is_a_422_that_names_the_field(
    client: httpx.Client, word: str, body: dict[str, Any], where: list[str | int]
) -> None:
    upload_voice(client, f"{word}.wav")

    assert faults(change(client, f"{word}.wav", **body)) == [["body", *where]]


def test_a_change_must_be_json(client: httpx.Client) -> None:
    reply = client.put("/api/v1/voice/any/metadata", data={"name": "x"})

    assert code(reply) == (415, "UNSUPPORTED_FORMAT")


# Finding


@pytest.mark.parametrize("spelling", ["{0}/{0}.wav", "{0}/{0}", "{0}.wav", "{0}", "{0} the name", "{0} alias"])
def test_a_voice_is_found_by_every_name_it_has(client: httpx.Client, word: str, spelling: str) -> None:
    upload_voice(client, f"{word}.wav", folder_path=word, name=f"{word} The Name", aliases=f"{word} Álias")

    name = spelling.format(word)
    found = metadata(client.get(f"/api/v1/voice/{name}"))
    judged = client.post(f"/api/v1/voice/{name}/quality")
    changed = metadata(change(client, name, description="found"))

    assert found["url"] == changed["url"] == f"{word}/{word}.wav"
    assert set(judged.json()["quality"]) == QUALITY
    assert judged.json()["filename"] == f"{word}.wav"


def test_quality_is_measured_when_that_is_asked_and_else_told_as_it_was_kept(
    client: httpx.Client, server: Server, word: str
) -> None:
    measured = metadata(upload_voice(client, f"{word}.wav"))["quality"]
    companion = server.data_dir / "voices" / f"{word}.wav.json"
    said = json.loads(companion.read_text("utf-8"))
    companion.write_text(json.dumps({**said, "quality": {"rating": "odd"}}), "utf-8")
    written = companion.read_bytes()

    kept = client.get(f"/api/v1/voice/{word}/quality").json()
    untouched = companion.read_bytes()
    anew = client.post(f"/api/v1/voice/{word}/quality").json()

    assert kept["quality"] == anew["quality"] == measured
    assert untouched == written
    assert json.loads(companion.read_text("utf-8"))["quality"] == measured


@pytest.mark.parametrize("address", ["{}", "{}/quality", "{}/metadata"])
def test_an_unknown_voice_is_a_404_with_names_that_look_like_it(client: httpx.Client, word: str, address: str) -> None:
    upload_voice(client, f"{word}.wav")
    url = f"/api/v1/voice/{address.format(word[:-1])}"

    reply = client.put(url, json={"name": "x"}) if url.endswith("metadata") else client.get(url)

    assert code(reply) == (404, "VOICE_NOT_FOUND")
    assert reply.json()["detail"] == {"voice": word[:-1], "close_matches": [f"{word}.wav"]}


def test_a_name_that_two_voices_have_is_a_422_that_lists_them(client: httpx.Client, word: str) -> None:
    for folder in ("a", "b"):
        upload_voice(client, f"{word}.wav", folder_path=f"{word}/{folder}")

    reply = client.get(f"/api/v1/voice/{word}")

    assert code(reply) == (422, "VALIDATION_ERROR")
    assert reply.json()["detail"][0]["candidates"] == [f"{word}/a/{word}.wav", f"{word}/b/{word}.wav"]


def test_a_deletion_takes_the_exact_path_only(client: httpx.Client, word: str) -> None:
    upload_voice(client, f"{word}.wav", folder_path=word)

    for name in (word, f"{word}.wav", f"{word}/{word}"):
        reply = client.delete(f"/api/v1/voice/{name}", params={"confirm": True})
        assert code(reply) == (404, "VOICE_NOT_FOUND")
    assert VOICES.names(client, folder=word) == [f"{word}.wav"]


# Listings


def test_voices_are_listed_by_name_and_found_by_what_is_said_of_them(client: httpx.Client, word: str) -> None:
    upload_voice(client, "1.wav", folder_path=word, name="Émil", tags="Calm")
    upload_voice(client, "2.wav", folder_path=word, name="anna", description="a Nördic storyteller")
    upload_voice(client, "3.wav", folder_path=word, name="Zoë", tags="calm,bright")

    assert [voice["name"] for voice in VOICES.listed(client, folder=word)] == ["anna", "Émil", "Zoë"]
    assert VOICES.names(client, folder=word, sort_order="desc") == ["3.wav", "1.wav", "2.wav"]
    assert VOICES.names(client, folder=word, tag="CALM") == ["1.wav", "3.wav"]
    assert VOICES.names(client, folder=word, search="nordic") == ["2.wav"]
    assert VOICES.names(client, folder=word, search="bright") == ["3.wav"]
    assert VOICES.names(client, folder=word, tag="bright", search="anna") == []
    listing = client.get("/api/v1/voices", params={"folder": word}).json()
    assert (listing["count"], listing["total_voices"], listing["total_files"]) == (3, 3, 3)


@pytest.mark.parametrize("order", ["usage_count", "last_used", "created_date"])
def test_voices_sort_by_their_use(client: httpx.Client, word: str, order: str) -> None:
    upload_voice(client, f"{word}1.wav", folder_path=word)
    upload_voice(client, f"{word}2.wav", folder_path=word)
    spoken = client.post("/api/v1/tts", json={"text": "Hi.", "reference_audio_filename": f"{word}2"})

    assert spoken.status_code == 200
    listed = VOICES.names(client, folder=word, sort_by=order, sort_order="desc")
    assert listed == [f"{word}2.wav", f"{word}1.wav"]


def test_voices_with_a_tag_are_deleted_together(client: httpx.Client, word: str) -> None:
    upload_voice(client, f"{word}1.wav", tags=word)
    upload_voice(client, f"{word}2.wav", tags=f"{word},b")
    upload_voice(client, f"{word}3.wav", tags="b")

    reply = client.delete("/api/v1/voices", params={"tag": word.upper(), "confirm": True})

    assert sorted(reply.json()["deleted_files"]) == [f"{word}1.wav", f"{word}2.wav"]
    assert VOICES.names(client, search=word) == [f"{word}3.wav"]
