from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.libraries import QUALITY, VOICES, code, faults, metadata, recording, upload_voice
from tests.serving import Server


@pytest.fixture
def word() -> str:
    """A name that no other test uses, in this folder or any other."""
    return f"v{uuid4().hex}"


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
