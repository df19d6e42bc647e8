from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import soundfile

from tests.libraries import OUTPUTS, code, recording
from tests.serving import Server


@pytest.fixture
def word() -> str:
    return f"o{uuid4().hex}"


def speak(client: httpx.Client, project: str, **fields: Any) -> list[dict[str, Any]]:
    """The files of a generation."""
    body = {"text": "Good morning.", "response_mode": "url", "project": project, **fields}
    reply = client.post("/api/v1/tts", json=body)
    assert reply.status_code == 200, reply.text
    files: list[dict[str, Any]] = reply.json()["output_files"]
    return files


@pytest.fixture(scope="module")
def large() -> bytes:
    """A WAV of more than the sockets between us hold."""
    file = BytesIO()
    soundfile.write(file, np.zeros(24_000 * 300, np.float32), 24_000, "FLOAT", format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def url(client: httpx.Client) -> str:
    body = {"text": "A file to fetch.", "response_mode": "url", "project": "größe 日本 🎙"}
    return str(client.post("/api/v1/tts", json=body).json()["output_files"][0]["url"])


def test_a_part_of_a_file_can_be_fetched(client: httpx.Client, url: str) -> None:
    whole = client.get(url)
    part = client.get(url, headers={"Range": "bytes=100-199"})

    assert whole.headers["accept-ranges"] == "bytes"
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert client.get(url, headers={"Range": "bytes=-100"}).content == whole.content[-100:]


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=9-5", "bytes=-0", "bytes=", "bytes=a-b"])
def test_a_range_that_is_not_there_is_a_416(client: httpx.Client, url: str, asked: str) -> None:
    reply = client.get(url, headers={"Range": asked})

    assert reply.status_code == 416
    assert reply.json()["error_code"] == "RANGE_NOT_SATISFIABLE"
    assert reply.headers["content-range"] == f"bytes */{len(client.get(url).content)}"


def test_a_range_in_an_unknown_unit_is_as_none(client: httpx.Client, url: str) -> None:
    assert client.get(url, headers={"Range": "chars=1-2"}).status_code == 200


def test_a_file_that_has_not_changed_is_not_sent_again(client: httpx.Client, url: str) -> None:
    etag = client.get(url).headers["etag"]

    again = client.get(url, headers={"If-None-Match": etag})

    assert again.status_code == 304
    assert not again.content
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_head_of_a_file_can_be_asked_for(client: httpx.Client, url: str) -> None:
    head = client.head(url)

    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(client.get(url).content)
    assert not head.content


def test_companions_are_not_served(client: httpx.Client, server: Server, url: str) -> None:
    companion = url.rsplit(".", 1)[0] + ".json"

    assert list(server.data_dir.rglob("*.json"))
    assert client.get(companion).status_code == 404


def test_nothing_is_left_of_a_file_half_written(client: httpx.Client, server: Server, url: str) -> None:
    assert client.get(url).status_code == 200
    assert not [path for path in server.data_dir.rglob("*") if path.name.startswith(".tmp")]


# Listings


def test_a_generation_is_listed_with_each_of_its_files(client: httpx.Client, server: Server, word: str) -> None:
    made = speak(client, f"{word}/größe", seed=42, export_formats=["flac", "mp3"])

    listed = OUTPUTS.listed(client, project=word)

    assert {file["url"] for file in listed} == {file["url"] for file in made}
    for file in listed:
        content = client.get(file["url"]).content
        assert file["filename"] == file["url"].rpartition("/")[2]
        assert file["generation_type"] == "tts"
        assert file["folder_path"] == f"{word}/größe"
        assert file["file_size_bytes"] == len(content)
        assert file["duration_seconds"] == pytest.approx(soundfile.info(BytesIO(content)).duration, abs=0.1)
        assert (file["sample_rate"], file["format"]) == (24_000, file["filename"].rpartition(".")[2])
        assert sorted(file["formats"]) == ["flac", "mp3"]
        assert (file["parameters"]["text"], file["parameters"]["seed"]) == ("Good morning.", 42)
        assert file["source_files"] == []
        assert file["created_date"]


def test_what_was_said_is_searched(client: httpx.Client, word: str) -> None:
    speak(client, word, text="The lighthouse keeper sleeps.", export_formats=["wav"])
    speak(client, word, text="Another text.", export_formats=["wav"])

    [found] = OUTPUTS.listed(client, folder=word, search="LIGHTHOUSE")

    assert found["parameters"]["text"] == "The lighthouse keeper sleeps."


def test_files_are_told_apart_by_how_they_were_made(client: httpx.Client, server: Server, word: str) -> None:
    speak(client, word, export_formats=["wav"])
    (server.data_dir / "vc_inputs" / f"{word}.wav").write_bytes(recording())
    body = {"input_audio_source": f"{word}.wav", "target_voice_source": "clara", "project": word}
    assert client.post("/api/v1/vc", json=body | {"export_formats": ["wav"]}).status_code == 200
    OUTPUTS.put(client, server, f"{word}/by hand.wav")

    [converted] = OUTPUTS.listed(client, folder=word, generation_type="VC")

    assert converted["source_files"] == [f"vc_inputs/{word}.wav"]
    assert len(OUTPUTS.listed(client, folder=word, generation_type="tts")) == 1
    listed = OUTPUTS.listed(client, folder=word, sort_by="generation_type", sort_order="asc")
    assert [file["generation_type"] for file in listed] == [None, "tts", "vc"]
    refused = client.get("/api/v1/outputs", params={"generation_type": "song"})
    assert code(refused) == (422, "VALIDATION_ERROR")


def test_only_what_was_made_one_way_is_deleted(client: httpx.Client, server: Server, word: str) -> None:
    speak(client, word)
    OUTPUTS.put(client, server, f"{word}/by hand.wav")

    reply = client.delete("/api/v1/outputs", params={"folder": word, "generation_type": "tts", "confirm": True})

    assert reply.json()["deleted_count"] == 2
    assert [path.name for path in (server.data_dir / "outputs" / word).iterdir()] == ["by hand.wav"]


def test_the_companion_stays_as_long_as_a_format_of_its_generation(
    client: httpx.Client, server: Server, word: str
) -> None:
    wav, mp3 = speak(client, word)
    folder = server.data_dir / "outputs" / word
    [companion] = folder.glob("*.json")

    client.delete(f"/api/v1/output/{word}/{wav['filename']}", params={"confirm": True})
    assert json.loads(companion.read_text("utf-8"))["text"]
    assert OUTPUTS.listed(client, folder=word)[0]["formats"] == ["mp3"]

    client.delete(f"/api/v1/output/{word}/{mp3['filename']}", params={"confirm": True})
    assert list(folder.iterdir()) == []


# Downloads


def test_a_deletion_does_not_disturb_a_download(client: httpx.Client, server: Server, word: str, large: bytes) -> None:
    OUTPUTS.put(client, server, f"{word}/large.wav", large)

    with client.stream("GET", f"/outputs/{word}/large.wav") as download:
        parts = download.iter_bytes()
        received = next(parts)
        deleted = client.delete(f"/api/v1/output/{word}/large.wav", params={"confirm": True})
        received += b"".join(parts)

    assert deleted.status_code == 200
    assert not (server.data_dir / "outputs" / word / "large.wav").exists()
    assert received == large
    assert client.get(f"/outputs/{word}/large.wav").status_code == 404


def test_a_part_is_sent_only_of_the_file_that_was_meant(client: httpx.Client, url: str) -> None:
    whole = client.get(url)
    part = {"Range": "bytes=0-9"}

    assert client.get(url, headers=part | {"If-Range": whole.headers["etag"]}).status_code == 206
    assert client.get(url, headers=part | {"If-Range": '"other"'}).content == whole.content


def test_several_parts_come_in_one_answer(client: httpx.Client, url: str) -> None:
    whole = client.get(url).content

    reply = client.get(url, headers={"Range": "bytes=0-9,20-29"})

    assert reply.status_code == 206
    assert reply.headers["content-type"].startswith("multipart/byteranges")
    assert whole[:10] in reply.content
    assert whole[20:30] in reply.content
