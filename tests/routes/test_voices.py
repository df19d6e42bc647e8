from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.libraries import VOICES, code, metadata, recording, upload_voice
from tests.serving import Server

QUALITY = {"rating", "duration", "clipping", "snr_db", "silence_share", "loudness_lufs", "bandwidth_hz", "advice"}


@pytest.fixture
def word() -> str:
    """A name that no other test uses, in this folder or any other."""
    return f"v{uuid4().hex}"


def change(client: httpx.Client, voice: str, /, **fields: Any) -> httpx.Response:
    return client.put(f"/api/v1/voice/{voice}/metadata", json=fields)


def faults(reply: httpx.Response) -> list[list[str | int]]:
    """Where a request is at fault."""
    assert code(reply) == (422, "VALIDATION_ERROR")
    return [fault["loc"] for fault in reply.json()["detail"]]


# Uploads


def test_an_uploaded_voice_is_described_and_keeps_its_bytes(client: httpx.Client, server: Server, word: str) -> None:
    reply = upload_voice(
        client,
        f"{word}.wav",
        name="Große Änna",
        description="A warm voice.\nFrom 2026.",
        tags="warm, low,WARM",
        aliases=f'["{word} alias, with a comma"]',
        folder_path=f"{word}/日本",
        default_parameters='{"exaggeration": 0.7, "language": null}',
    )

    assert reply.json()["success"] is True
    assert reply.json()["filename"] == f"{word}.wav"
    voice = metadata(reply)
    assert set(voice.pop("quality")) == QUALITY
    assert datetime.fromisoformat(voice.pop("created_date")).tzinfo
    assert voice == {
        "name": "Große Änna",
        "filename": f"{word}.wav",
        "url": f"{word}/日本/{word}.wav",
        "description": "A warm voice.\nFrom 2026.",
        "duration_seconds": 4.0,
        "sample_rate": 24_000,
        "file_size_bytes": len(recording()),
        "format": "wav",
        "default_parameters": {"exaggeration": 0.7},
        "tags": ["warm", "low"],
        "last_used": None,
        "usage_count": 0,
        "folder_path": f"{word}/日本",
        "aliases": [f"{word} alias, with a comma"],
    }
    path = server.data_dir / "voices" / word / "日本" / f"{word}.wav"
    assert path.read_bytes() == recording()
    assert json.loads(path.with_name(f"{word}.wav.json").read_text("utf-8"))["tags"] == ["warm", "low"]


def test_a_voice_of_which_nothing_is_said_goes_by_its_file(client: httpx.Client, word: str) -> None:
    voice = metadata(upload_voice(client, f"{word}.wav"))

    assert (voice["name"], voice["url"], voice["folder_path"]) == (word, f"{word}.wav", None)
    assert (voice["tags"], voice["aliases"], voice["default_parameters"]) == ([], [], {})
    assert voice["description"] is None


@pytest.mark.parametrize("tags", [["a, b"], ["a", "b"], ['["a", "b"]'], ["a,,b,"]])
def test_tags_come_in_every_common_form(client: httpx.Client, word: str, tags: list[str]) -> None:
    assert metadata(upload_voice(client, f"{word}.wav", tags=tags))["tags"] == ["a", "b"]


def test_a_name_that_is_taken_is_a_409_unless_it_may_be_overwritten(client: httpx.Client, word: str) -> None:
    first = metadata(upload_voice(client, f"{word}.wav", name="First"))

    assert code(upload_voice(client, f"{word}.wav", recording(150))) == (409, "FILE_EXISTS")
    second = metadata(upload_voice(client, f"{word}.wav", recording(150), name="Second", overwrite="true"))

    assert (first["name"], second["name"]) == ("First", "Second")
    assert len(VOICES.listed(client, search=word)) == 1


def test_of_two_uploads_at_once_one_is_kept(client: httpx.Client, server: Server, word: str) -> None:
    start = Barrier(2)
    contents = [recording(150), recording(200)]

    def upload(content: bytes) -> int:
        start.wait(10)
        return upload_voice(client, f"{word}.wav", content).status_code

    with ThreadPoolExecutor(2) as clients:
        statuses = list(clients.map(upload, contents))

    assert sorted(statuses) == [200, 409]
    kept = (server.data_dir / "voices" / f"{word}.wav").read_bytes()
    assert kept == contents[statuses.index(200)]


@pytest.mark.parametrize("content", [b"", b"This is a text.", recording()[:60], b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_audio_is_refused_whatever_its_name(client: httpx.Client, word: str, content: bytes) -> None:
    assert code(upload_voice(client, f"{word}.wav", content)) == (400, "INVALID_AUDIO")
    assert VOICES.listed(client, search=word) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 201),
        ("name", "a\tb"),
        ("description", "x" * 5001),
        ("tags", "x" * 51),
        ("tags", "[1]"),
        ("tags", ",".join(map(str, range(51)))),
        ("aliases", "x" * 101),
        ("aliases", ",".join(map(str, range(21)))),
        ("default_parameters", "{"),
        ("default_parameters", "[]"),
        ("default_parameters", "5"),
        ("overwrite", "perhaps"),
        ("tag", "x"),
    ],
)
def test_a_field_that_is_wrong_is_a_422_that_names_it(client: httpx.Client, word: str, field: str, value: str) -> None:
    assert faults(upload_voice(client, f"{word}.wav", None, **{field: value}))[0][:2] == ["body", field]
    assert VOICES.listed(client, search=word) == []


@pytest.mark.parametrize(
    ("parameters", "at_fault"),
    [({"temperature": 7}, "temperature"), ({"temprature": 1}, "temprature"), ({"text": "Hi."}, "text")],
)
def test_default_parameters_are_checked_as_those_of_a_request(
    client: httpx.Client, word: str, parameters: dict[str, Any], at_fault: str
) -> None:
    reply = upload_voice(client, f"{word}.wav", default_parameters=json.dumps(parameters))

    assert faults(reply) == [["body", "default_parameters", at_fault]]


def test_a_folder_has_one_name(client: httpx.Client, word: str) -> None:
    assert metadata(upload_voice(client, f"{word}.wav", project=word))["folder_path"] == word
    assert metadata(upload_voice(client, f"{word}2.wav", folder=word, project=word))["folder_path"] == word
    reply = upload_voice(client, f"{word}3.wav", folder_path=word, project="other")
    assert faults(reply) == [["body"]]
    assert "folder_path and project" in reply.json()["error"]


@pytest.mark.parametrize(("field", "bad"), [("filename", "../x.wav"), ("folder_path", "../x"), ("folder_path", "/x")])
def test_an_upload_stays_in_the_library(client: httpx.Client, word: str, field: str, bad: str) -> None:
    filename = bad if field == "filename" else f"{word}.wav"
    fields = {} if field == "filename" else {field: bad}

    assert code(upload_voice(client, filename, None, **fields)) == (400, "INVALID_PATH")


def test_several_files_in_one_upload_are_told_where_to_go(client: httpx.Client, word: str) -> None:
    files = [("voice_file", (f"{word}{number}.wav", recording())) for number in range(2)]

    reply = client.post("/api/v1/voice", files=files)

    assert faults(reply) == [["body", "voice_file"]]
    assert "POST /api/v1/voices" in reply.json()["error"]


def test_an_upload_without_a_file_is_refused(client: httpx.Client) -> None:
    nothing = {"other": ("x.wav", b"")}

    assert ["body", "voice_file"] in faults(client.post("/api/v1/voice", files=nothing))
    assert ["body", "voice_files"] in faults(client.post("/api/v1/voices", files={"tags": (None, "a")}))


# Several at once


def test_several_voices_come_in_one_request_and_each_has_its_result(client: httpx.Client, word: str) -> None:
    files = [
        ("voice_files", (f"{word} 1.wav", recording())),
        ("voice_files", (f"{word} 2.wav", b"no audio")),
        ("voice_files", (f"{word} 3.wav", recording(150))),
        ("voice_files", (f"{word} 1.wav", recording())),
    ]

    reply = client.post("/api/v1/voices", files=files, data={"tags": "a,b", "folder_path": word})

    assert reply.status_code == 200
    results = reply.json()["results"]
    assert [result["filename"] for result in results] == [f"{word} {n}.wav" for n in (1, 2, 3, 1)]
    assert [result["error_code"] for result in results] == [None, "INVALID_AUDIO", None, "FILE_EXISTS"]
    assert [result["success"] for result in results] == [True, False, True, False]
    assert results[1]["voice_metadata"] is None
    assert results[1]["error"]
    assert results[2]["voice_metadata"]["tags"] == ["a", "b"]
    assert (reply.json()["uploaded_count"], reply.json()["failed_count"]) == (2, 2)
    assert sorted(VOICES.names(client, folder=word)) == [f"{word} 1.wav", f"{word} 3.wav"]


def test_several_voices_of_which_none_can_be_kept_are_a_failure(client: httpx.Client, word: str) -> None:
    files = [("files", (f"{word}.wav", b"no audio")), ("files", ("../x.wav", recording()))]

    reply = client.post("/api/v1/voices", files=files)

    assert code(reply) == (400, "INVALID_AUDIO")
    assert [result["error_code"] for result in reply.json()["detail"]] == ["INVALID_AUDIO", "INVALID_PATH"]


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
    judged = client.get(f"/api/v1/voice/{name}/quality")
    changed = metadata(change(client, name, description="found"))

    assert found["url"] == changed["url"] == f"{word}/{word}.wav"
    assert set(judged.json()["quality"]) == QUALITY
    assert judged.json()["filename"] == f"{word}.wav"


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
