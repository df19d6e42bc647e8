from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.libraries import VC_INPUTS, code, recording
from tests.serving import Server


@pytest.fixture
def word() -> str:
    return f"r{uuid4().hex}"


def upload(client: httpx.Client, filename: str, content: bytes | None = None, **fields: Any) -> httpx.Response:
    return client.post("/api/v1/vc_input", files={"vc_input_file": (filename, content or recording())}, data=fields)


def test_an_uploaded_recording_is_described_and_keeps_its_bytes(
    client: httpx.Client, server: Server, word: str
) -> None:
    reply = upload(client, "größe 🎙.wav", text="Guten Tag.\nUnd auf Wiedersehen.", folder_path=word)

    assert reply.status_code == 200
    assert (reply.json()["success"], reply.json()["filename"]) == (True, "größe 🎙.wav")
    metadata = reply.json()["metadata"]
    assert datetime.fromisoformat(metadata.pop("created_date")).tzinfo
    assert datetime.fromisoformat(metadata.pop("upload_date")).tzinfo
    assert metadata == {
        "filename": "größe 🎙.wav",
        "url": f"{word}/größe 🎙.wav",
        "folder_path": word,
        "text": "Guten Tag.\nUnd auf Wiedersehen.",
        "file_size_bytes": len(recording()),
        "duration_seconds": 4.0,
        "sample_rate": 24_000,
        "format": "wav",
    }
    assert (server.data_dir / "vc_inputs" / word / "größe 🎙.wav").read_bytes() == recording()


def test_the_words_of_a_recording_are_searched(client: httpx.Client, word: str) -> None:
    upload(client, "a.wav", project=word, text="Alles Gute zum Geburtstag")
    upload(client, "b.wav", folder=word)

    found = VC_INPUTS.listed(client, folder=word, search="GEBURTSTAG alles")

    assert [(file["filename"], file["text"]) for file in found] == [("a.wav", "Alles Gute zum Geburtstag")]
    assert VC_INPUTS.listed(client, folder=word, search="b.wav")[0]["text"] is None


def test_an_uploaded_recording_can_be_converted(client: httpx.Client, word: str) -> None:
    url = upload(client, "one.wav", folder_path=word).json()["metadata"]["url"]

    reply = client.post("/api/v1/vc", json={"input_audio_source": url, "target_voice_source": "clara"})

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "audio/wav"


def test_a_name_that_is_taken_is_a_409_unless_it_may_be_overwritten(client: httpx.Client, word: str) -> None:
    upload(client, f"{word}.wav")

    assert code(upload(client, f"{word}.wav", recording(150))) == (409, "FILE_EXISTS")
    assert upload(client, f"{word}.wav", recording(150), overwrite="true", text="new").status_code == 200
    [kept] = VC_INPUTS.listed(client, search=word)
    assert kept["text"] == "new"


@pytest.mark.parametrize(
    ("filename", "content", "failure"),
    [
        ("x.wav", b"This is a text.", (400, "INVALID_AUDIO")),
        ("../x.wav", None, (400, "INVALID_PATH")),
        ("nul.wav", None, (400, "INVALID_PATH")),
    ],
)
def test_what_cannot_be_kept_is_refused(
    client: httpx.Client, word: str, filename: str, content: bytes | None, failure: tuple[int, str]
) -> None:
    assert code(upload(client, filename, content, folder_path=word)) == failure
    assert VC_INPUTS.listed(client, folder=word) == []


@pytest.mark.parametrize(
    ("field", "value"), [("text", "x" * 100_001), ("text", "bell\a"), ("overwrite", "x"), ("txet", "x")]
)
def test_a_field_that_is_wrong_is_a_422_that_names_it(client: httpx.Client, word: str, field: str, value: str) -> None:
    reply = upload(client, f"{word}.wav", None, **{field: value})

    assert code(reply) == (422, "VALIDATION_ERROR")
    assert reply.json()["detail"][0]["loc"] == ["body", field]


def test_one_recording_comes_in_one_upload(client: httpx.Client, word: str) -> None:
    files = [("vc_input_file", (f"{word}{number}.wav", recording())) for number in range(2)]

    assert code(client.post("/api/v1/vc_input", files=files)) == (422, "VALIDATION_ERROR")
    assert VC_INPUTS.listed(client, search=word) == []
