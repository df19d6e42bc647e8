from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.libraries import VC_INPUTS, VOICES, Library, code, faults, recording
from tests.serving import Server


@pytest.mark.parametrize("library", [VOICES, VC_INPUTS], ids=str)
def test_a_file_over_the_limit_is_refused(small: httpx.Client, small_server: Server, library: Library) -> None:
    field = f"{library.one}_file"
    just_too_large = small.post(f"/api/v1/{library.one}", files={field: ("x.wav", recording() * 3)})

    assert code(just_too_large) == (413, "FILE_TOO_LARGE")
    assert not [path for path in (small_server.data_dir / library.name).rglob("*") if path.is_file()]


def test_a_flood_is_cut_off_before_it_was_sent(small: httpx.Client) -> None:
    sent = 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="voice_file"; filename="x.wav"\r\n\r\n'
        while sent < 2_000_000_000:
            sent += 1_000_000
            yield bytes(1_000_000)

    try:
        reply = small.post(
            "/api/v1/voice", content=flood(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    except httpx.TransportError:
        pass  # the server hung up on what it does not read
    else:
        assert code(reply) == (413, "FILE_TOO_LARGE")
    assert sent < 100_000_000


@pytest.mark.parametrize(("path", "fields"), [("voices", ["files", "files"]), ("vc", ["input_audio", "target_voice"])])
def test_a_boundary_that_looks_like_json_makes_no_json(
    client: httpx.Client, folder: str, path: str, fields: list[str]
) -> None:
    """Else the form had to be as small as JSON must be."""
    reply = client.post(
        f"/api/v1/{path}",
        files=[(field, (f"{folder}{number}.wav", recording())) for number, field in enumerate(fields)],
        headers={"Content-Type": "multipart/form-data; boundary=--------aJsOn0"},
    )

    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(("path", "field", "most"), [("voices", "voice_files", 100), ("vc", "input_audio", 2)])
def test_a_form_of_too_many_files_is_refused(client: httpx.Client, path: str, field: str, most: int) -> None:
    reply = client.post(f"/api/v1/{path}", files=[(field, (f"{n}.wav", b"x")) for n in range(most + 1)])

    assert faults(reply) == [["body", field]]
    assert f"more than {most} files" in reply.json()["error"]


@pytest.mark.parametrize("path", ["voice", "voices", "vc_input", "vc", "voices/restore"])
def test_a_form_of_too_many_or_too_long_fields_is_refused(client: httpx.Client, path: str) -> None:
    file = ("voice_file", ("x.wav", recording()))
    many = client.post(f"/api/v1/{path}", files=[*[(f"field{n}", (None, "x")) for n in range(101)], file])
    long = client.post(f"/api/v1/{path}", files=[("folder_path", (None, "x" * 400_001)), file])

    assert faults(many) == [["body", "field100"]]
    assert "more than 100 fields" in many.json()["error"]
    assert faults(long) == [["body", "folder_path"]]


def test_the_longest_list_and_the_longest_text_fit(client: httpx.Client, folder: str) -> None:
    about: dict[str, Any] = {"folder_path": folder, "overwrite": "true"}
    tags = [str(number) for number in range(50)]
    aliases = [f"{folder}{number}" for number in range(20)]

    voice = client.post(
        "/api/v1/voice",
        files={"voice_file": ("x.wav", recording())},
        data={**about, "tags": tags, "aliases": aliases, "description": "語" * 5000, "name": "x"},
    )
    text = client.post(
        "/api/v1/vc_input", files={"vc_input_file": ("x.wav", recording())}, data={**about, "text": "語" * 100_000}
    )

    assert voice.json()["voice_metadata"]["tags"] == tags
    assert len(text.json()["metadata"]["text"]) == 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the peak of a process that can be forgotten")
def test_many_files_are_not_held_in_memory(small: httpx.Client, small_server: Server) -> None:
    process = Path("/proc", str(small_server.process.pid))

    def upload() -> httpx.Response:
        return small.post("/api/v1/voices", files=[("voice_files", ("x.wav", bytes(900_000))) for _ in range(100)])

    def peak_kib() -> int:
        status = (process / "status").read_text("ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    small.post("/api/v1/voices", files=[("voice_files", ("x.wav", bytes(900_000)))])  # which loads what reads audio
    (process / "clear_refs").write_text("5", "ascii")  # the peak is what is in memory now
    before = peak_kib()

    assert code(upload()) == (400, "INVALID_AUDIO")
    assert peak_kib() - before < 40_000


@pytest.mark.parametrize("path", ["voice", "voices", "vc_input"])
def test_an_upload_that_is_no_form_is_refused(client: httpx.Client, path: str) -> None:
    assert code(client.post(f"/api/v1/{path}", json={"voice_file": "x"})) == (415, "UNSUPPORTED_FORMAT")
    urlencoded = client.post(f"/api/v1/{path}", data={"voice_file": "x"})
    assert code(urlencoded) == (415, "UNSUPPORTED_FORMAT")
    broken = client.post(
        f"/api/v1/{path}", content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert code(broken) == (422, "VALIDATION_ERROR")
