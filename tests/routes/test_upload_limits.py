from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.libraries import VC_INPUTS, VOICES, Library, code, recording
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


@pytest.mark.parametrize("path", ["voice", "voices", "vc_input"])
def test_an_upload_that_is_no_form_is_refused(client: httpx.Client, path: str) -> None:
    assert code(client.post(f"/api/v1/{path}", json={"voice_file": "x"})) == (415, "UNSUPPORTED_FORMAT")
    urlencoded = client.post(f"/api/v1/{path}", data={"voice_file": "x"})
    assert code(urlencoded) == (415, "UNSUPPORTED_FORMAT")
    broken = client.post(
        f"/api/v1/{path}", content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert code(broken) == (422, "VALIDATION_ERROR")
