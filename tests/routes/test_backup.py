from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.recordings import vowels_wav
from tests.serving import Server

RECORDING = vowels_wav(180)
NAMES = ("backup/größe 1.wav", "backup/日本/声 🎙️.wav")


@pytest.fixture
def furnished(client: httpx.Client) -> None:
    for name in NAMES:
        folder, _, filename = name.rpartition("/")
        form = {"folder_path": folder, "overwrite": "true", "description": f"of {name}", "tags": "one,two"}
        reply = client.post("/api/v1/voice", files={"voice_file": (filename, RECORDING)}, data=form)
        assert reply.status_code == 200, reply.text


def wipe(client: httpx.Client) -> None:
    assert client.delete("/api/v1/voices", params={"folder": "backup", "confirm": "true"}).status_code == 200


def listed(client: httpx.Client) -> list[dict[str, object]]:
    voices = client.get("/api/v1/voices", params={"folder": "backup"}).json()["voices"]
    assert isinstance(voices, list)
    return voices


def backup(client: httpx.Client) -> bytes:
    reply = client.get("/api/v1/voices/backup", params={"folder": "backup"})
    assert reply.status_code == 200
    return reply.content


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, RECORDING)
    return file.getvalue()


@pytest.mark.usefixtures("furnished")
def test_a_backup_is_a_zip_to_keep(client: httpx.Client) -> None:
    reply = client.get("/api/v1/voices/backup")

    assert reply.headers["content-type"] == "application/zip"
    assert reply.headers["content-disposition"].startswith('attachment; filename="voices_20')
    names = zipfile.ZipFile(io.BytesIO(reply.content)).namelist()
    assert {*NAMES, *(f"{name}.json" for name in NAMES)} <= set(names)


@pytest.mark.usefixtures("furnished")
@pytest.mark.parametrize("address", ["/api/v1/voices/restore", "/api/v1/voices/backup"])
@pytest.mark.parametrize("way", ["form", "body"])
def test_what_was_deleted_comes_back_as_it_was(client: httpx.Client, address: str, way: str) -> None:
    archive, before = backup(client), listed(client)
    wipe(client)

    if way == "form":
        reply = client.post(address, files={"any name": ("voices.zip", archive, "application/zip")})
    else:
        reply = client.post(address, content=archive, headers={"Content-Type": "application/zip"})

    assert reply.status_code == 200, reply.text
    assert sorted(reply.json()["restored"]) == sorted(NAMES)
    assert reply.json()["restored_count"] == 2
    assert listed(client) == before
    wipe(client)


@pytest.mark.usefixtures("furnished")
def test_the_mode_says_what_becomes_of_voices_that_are_there(client: httpx.Client) -> None:
    url = "/api/v1/voices/restore"
    headers = {"Content-Type": "application/octet-stream"}

    skipped = client.post(url, content=backup(client), headers=headers).json()
    renamed = client.post(f"{url}?mode=rename", content=backup(client), headers=headers).json()
    overwritten = client.post(f"{url}?mode=OVERWRITE", content=backup(client), headers=headers).json()

    assert (skipped["mode"], sorted(skipped["skipped"]), skipped["restored"]) == ("skip", sorted(NAMES), [])
    assert sorted(renamed["skipped"]) == sorted(NAMES)  # for they are the very same recordings
    assert sorted(overwritten["restored"]) == sorted(NAMES)
    assert len(listed(client)) == 2
    wipe(client)


@pytest.mark.parametrize("query", ["mode=all", "mod=overwrite", "mode="])
def test_a_misspelt_option_is_refused(client: httpx.Client, query: str) -> None:
    reply = client.post(
        f"/api/v1/voices/restore?{query}", content=packed("x.wav"), headers={"Content-Type": "application/zip"}
    )

    assert reply.status_code == 422
    assert client.get("/api/v1/voices/backup?folders=x").status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"no archive", 400, "INVALID_ARCHIVE"),
        (b"", 400, "INVALID_ARCHIVE"),
        (packed("backup/x.wav", "readme.txt"), 400, "INVALID_ARCHIVE"),
        (packed("backup/x.wav", "../x.wav"), 400, "INVALID_PATH"),
    ],
)
def test_a_bad_archive_is_refused_as_a_whole(
    client: httpx.Client, server: Server, body: bytes, status: int, code: str
) -> None:
    reply = client.post("/api/v1/voices/restore", content=body, headers={"Content-Type": "application/zip"})

    assert (reply.status_code, reply.json()["error_code"]) == (status, code)
    assert listed(client) == []
    assert not [path for path in server.data_dir.rglob("*") if path.name.startswith((".tmp", ".new"))]


def test_a_form_must_hold_one_file_and_nothing_else(client: httpx.Client) -> None:
    url = "/api/v1/voices/restore"
    archive = ("voices.zip", packed("backup/x.wav"))

    both = client.post(url, files=[("a", archive), ("b", archive)])
    with_field = client.post(url, files={"file": archive}, data={"mode": "overwrite"})
    none = client.post(url, files={"file": (None, "text")})

    assert [reply.status_code for reply in (both, with_field, none)] == [422, 422, 422]
    assert "mode" in with_field.json()["error"]
    assert listed(client) == []


def test_another_content_type_is_a_415(client: httpx.Client) -> None:
    reply = client.post("/api/v1/voices/restore", json={"file": "voices.zip"})

    assert (reply.status_code, reply.json()["error_code"]) == (415, "UNSUPPORTED_FORMAT")


def test_an_upload_that_breaks_off_leaves_nothing(client: httpx.Client, server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /api/v1/voices/restore HTTP/1.1\r\nHost: x\r\nX-Request-ID: breaks-off\r\n"
            b"Content-Type: application/zip\r\nContent-Length: 9000000\r\n\r\n" + bytes(3_000_000)
        )
    server.wait_for_log("[breaks-off] request")

    assert not [path for path in server.data_dir.rglob("*") if path.name.startswith(".tmp")]


@pytest.mark.usefixtures("furnished")
def test_a_client_that_leaves_a_backup_disturbs_nobody(client: httpx.Client, server: Server) -> None:
    for number in range(3):
        add = {"voice_file": (f"long{number}.wav", RECORDING)}
        client.post("/api/v1/voice", files=add, data={"folder_path": "backup", "overwrite": "true"})
    with client.stream("GET", "/api/v1/voices/backup") as reply:
        next(reply.iter_raw())

    assert zipfile.ZipFile(io.BytesIO(backup(client))).testzip() is None
    wipe(client)
    assert not Path(server.data_dir / "voices" / NAMES[0]).exists()
