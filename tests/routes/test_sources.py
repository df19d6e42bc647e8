"""Recordings that a request names by their web address, fetched from a server on a loopback port."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.libraries import code, faults, upload_voice
from tests.listen import fundamental_hz, read
from tests.management.sounds import comes_true
from tests.recordings import vowels_wav
from tests.serving import Server, serving
from utils.files.atomic import TEMPORARY_PREFIX

TTS, VC = "/api/v1/tts", "/api/v1/vc"
ENDLESS = "/endless.wav"
OPEN = {
    "CHATTERBOX_FETCH__ALLOW_PRIVATE": "true",
    "CHATTERBOX_FETCH__ALLOWED_HOSTS": '["*:*"]',
    "CHATTERBOX_FETCH__MAX_MB": "1",
    "CHATTERBOX_FETCH__TIMEOUT_S": "30",
}


class Site:
    """Files at addresses of this machine; `asked` holds the paths that somebody wanted.

    `/endless.wav` never ends; `was_left` is set when somebody gives it up.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, str, bytes]] = {}
        self.asked: list[str] = []
        self.was_left = threading.Event()
        site = self

        class Visit(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                status, media_type, content = site.files.get(self.path.partition("?")[0], (404, "text/html", b"no"))
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                if self.path != ENDLESS:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if self.path == ENDLESS:
                    self.connection.recv(1)
                    site.was_left.set()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Visit)

    def put(self, path: str, content: bytes, media_type: str = "audio/wav", status: int = 200) -> str:
        """Its address."""
        self.files[path] = (status, media_type, content)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"


@contextmanager
def site_served() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
        site.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with site_served() as site:
        site.put("/low.wav", vowels_wav(110))
        site.put("/high.wav", vowels_wav(220))
        yield site


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may ask hosts of this machine."""
    with serving(tmp_path_factory.mktemp("fetching"), "--engine", "embedded", environment=OPEN) as running:
        yield running


@pytest.fixture(scope="module")
def fetcher(fetching: Server) -> Iterator[httpx.Client]:
    with fetching.client() as session:
        yield session


def unfinished(server: Server) -> list[Path]:
    return list(server.data_dir.rglob(f"{TEMPORARY_PREFIX}*"))


def described(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def companion_of(server: Server, reply: dict[str, Any]) -> dict[str, Any]:
    file = server.data_dir / reply["output_files"][0]["path"]
    content: dict[str, Any] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return content


def test_a_recording_gives_the_same_samples_in_whichever_way_it_comes(
    fetcher: httpx.Client, fetching: Server, site: Site
) -> None:
    low, high = vowels_wav(110), vowels_wav(220)
    upload_voice(fetcher, "high.wav", high)
    fetcher.post("/api/v1/vc_input", files={"vc_input_file": ("low.wav", low)})
    named = {"input_audio_source": "low.wav", "target_voice_source": "high"}
    fetched = {"input_audio_source": site.url("/low.wav"), "target_voice_source": site.url("/high.wav")}
    settings = {"seed": 7, "chunk_sec": 1.5}

    by_name = fetcher.post(VC, json={**named, **settings})
    by_address = fetcher.post(VC, json={**fetched, **settings})
    as_files = fetcher.post(VC, files={"input_audio": ("a.wav", low), "target_voice": ("b.wav", high)}, data=settings)
    in_a_form = fetcher.post(VC, files={"input_audio": low}, data={"target_voice_source": "high", **settings})
    address_in_a_form = fetcher.post(
        VC, files={name: (None, str(value)) for name, value in {**fetched, **settings}.items()}
    )

    assert by_name.status_code == 200, by_name.text
    assert fundamental_hz(read(by_name.content)) == pytest.approx(220, rel=0.07)
    for other in (by_address, as_files, in_a_form, address_in_a_form):
        assert other.status_code == 200, other.text
        assert other.content == by_name.content
    assert not unfinished(fetching)


def test_a_voice_by_web_address_speaks_as_it_does_from_the_library(fetcher: httpx.Client, site: Site) -> None:
    upload_voice(fetcher, "low.wav", vowels_wav(110))
    body = {"text": "Good morning to you all.", "seed": 3, "export_formats": ["wav"]}

    fetched = fetcher.post(TTS, json={**body, "reference_audio_filename": site.url("/low.wav")})
    named = fetcher.post(TTS, json={**body, "reference_audio_filename": "low"})

    assert fetched.status_code == 200, fetched.text
    assert fetched.content == named.content
    assert fundamental_hz(read(fetched.content)) == pytest.approx(110, rel=0.1)


@pytest.mark.parametrize("path", [TTS, VC])
def test_live_audio_can_come_of_a_web_address(fetcher: httpx.Client, fetching: Server, site: Site, path: str) -> None:
    body = {
        TTS: {"text": "Good morning. How are you?", "reference_audio_filename": site.url("/high.wav"), "seed": 3},
        VC: {"input_audio_source": site.url("/low.wav"), "target_voice_source": site.url("/high.wav"), "chunk_sec": 1},
    }[path]

    live = fetcher.post(path, params={"response_mode": "live"}, json=body)

    assert live.status_code == 200, live.text
    assert fundamental_hz(read(live.content)) == pytest.approx(220, rel=0.1)
    assert comes_true(lambda: not unfinished(fetching))  # which goes when the answer has gone


def test_what_may_be_a_key_in_an_address_is_kept_nowhere(fetcher: httpx.Client, fetching: Server, site: Site) -> None:
    secret = "?token=hush-hush"
    body = {"input_audio_source": site.url("/low.wav") + secret, "target_voice_source": site.url("/high.wav") + secret}

    reply = described(fetcher.post(VC, params={"response_mode": "url"}, json=body))
    speech = {"text": "Hello.", "reference_audio_filename": site.url("/high.wav") + secret}
    spoken = described(fetcher.post(TTS, params={"response_mode": "url"}, json=speech))

    assert site.asked == ["/low.wav" + secret, "/high.wav" + secret, "/high.wav" + secret]
    assert reply["source"] == "http://127.0.0.1/low.wav"
    assert reply["voice"] == spoken["voice"] == "http://127.0.0.1/high.wav"
    listing = fetcher.get("/api/v1/outputs").text
    for told in (json.dumps(companion_of(fetching, one)) for one in (reply, spoken)):
        assert "hush-hush" not in told
    assert "hush-hush" not in json.dumps([reply, spoken]) + listing + "".join(fetching.log)


def test_a_file_is_named_after_the_voice_at_the_address(fetcher: httpx.Client, site: Site) -> None:
    body = {"input_audio_source": site.url("/low.wav"), "target_voice_source": site.url("/high.wav")}

    reply = described(fetcher.post(VC, params={"response_mode": "url"}, json=body))

    assert all("_voicehigh." in file["filename"] for file in reply["output_files"])


@pytest.mark.parametrize("body", [{"text": "Hello.", "seed": 2}, {"input_audio_source": "edge.wav"}])
def test_a_voice_by_address_counts_no_use_and_brings_no_defaults(
    fetcher: httpx.Client, site: Site, body: dict[str, Any]
) -> None:
    upload_voice(fetcher, "high.wav", vowels_wav(220), default_parameters='{"speed_factor": 2.0}')
    fetcher.post("/api/v1/vc_input", files={"vc_input_file": ("edge.wav", vowels_wav(110))})
    voice = "reference_audio_filename" if "text" in body else "target_voice_source"
    before = fetcher.get("/api/v1/voice/high.wav").json()["voice_metadata"]["usage_count"]

    reply = fetcher.post(TTS if "text" in body else VC, json={**body, voice: site.url("/high.wav")})

    assert "_speed" not in reply.headers["content-disposition"]
    assert fetcher.get("/api/v1/voice/high.wav").json()["voice_metadata"]["usage_count"] == before


@pytest.mark.parametrize(
    ("path", "status", "media_type", "content", "expected"),
    [
        ("/gone.wav", 404, "text/html", b"gone", (502, "DOWNLOAD_FAILED")),
        ("/secret.wav", 403, "audio/wav", b"no", (502, "DOWNLOAD_FAILED")),
        ("/page.wav", 200, "text/html", b"<html>", (502, "DOWNLOAD_FAILED")),
        ("/list.wav", 200, "audio/x-mpegurl", b"#EXTM3U", (502, "DOWNLOAD_FAILED")),
        ("/empty.wav", 200, "audio/wav", b"", (502, "DOWNLOAD_FAILED")),
        ("/text.wav", 200, "audio/wav", b"this is a text called wav", (400, "INVALID_AUDIO")),
        ("/large.wav", 200, "audio/wav", bytes(1_000_001), (413, "FILE_TOO_LARGE")),
    ],
)
@pytest.mark.parametrize("field", ["input_audio_source", "target_voice_source", "reference_audio_filename"])
def test_what_cannot_be_fetched_has_its_code_and_leaves_nothing(
    fetcher: httpx.Client,
    fetching: Server,
    site: Site,
    path: str,
    status: int,
    media_type: str,
    content: bytes,
    expected: tuple[int, str],
    field: str,
) -> None:
    address = site.put(path, content, media_type, status)
    conversion = {"input_audio_source": site.url("/low.wav"), "target_voice_source": "clara"}
    body = {"text": "Hello."} if field == "reference_audio_filename" else conversion

    reply = fetcher.post(TTS if "text" in body else VC, json={**body, field: address})

    assert code(reply) == expected
    assert "<html>" not in reply.text
    assert not unfinished(fetching)


@pytest.mark.parametrize("path", [TTS, VC])
def test_a_client_that_leaves_ends_the_download_too(
    fetcher: httpx.Client, fetching: Server, site: Site, path: str
) -> None:
    address = site.put(ENDLESS, vowels_wav(200))
    conversion = {"input_audio_source": address, "target_voice_source": "clara"}
    body = {"text": "Hello.", "reference_audio_filename": address} if path == TTS else conversion

    with pytest.raises(httpx.ReadTimeout):
        fetcher.post(path, json=body, timeout=httpx.Timeout(60, read=1))

    assert site.was_left.wait(15)
    fetching.wait_for_log(f"route={path} status=499")
    assert not unfinished(fetching)


def test_nothing_is_fetched_for_a_request_that_is_refused(fetcher: httpx.Client, site: Site) -> None:
    body = {"input_audio_source": site.url("/low.wav"), "target_voice_source": site.url("/high.wav")}

    misspelt = fetcher.post(VC, json={**body, "sede": 3})
    unmade = fetcher.post(VC, json={**body, "return_format": "flac"})
    overlapping = fetcher.post(VC, json={**body, "chunk_sec": 2, "overlap_sec": 2})

    assert [*faults(misspelt), *faults(unmade), *faults(overlapping)] == [
        ["body", "sede"],
        ["body", "return_format"],
        ["body", "overlap_sec"],
    ]
    assert site.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "169.254.169.254", "a@example.org"])
@pytest.mark.parametrize("field", ["reference_audio_filename", "input_audio_source", "target_voice_source"])
def test_an_address_inside_is_refused_and_nobody_is_asked(
    client: httpx.Client, server: Server, site: Site, host: str, field: str
) -> None:
    address = f"HTTP://{host}:{site.server.server_address[1]}/high.wav"
    conversion = {"input_audio_source": "low.wav", "target_voice_source": "clara"}
    body = {"text": "Hello."} if field == "reference_audio_filename" else conversion

    reply = client.post(TTS if "text" in body else VC, json={**body, field: address})

    assert code(reply) == (400, "DOWNLOAD_REFUSED")
    assert "high.wav" not in reply.json()["error"]
    assert site.asked == []
    assert not unfinished(server)


def test_an_operator_can_switch_fetching_off(tmp_path: Path, site: Site) -> None:
    environment = {**OPEN, "CHATTERBOX_FETCH__ENABLED": "false"}
    body = {"text": "Hello.", "reference_audio_filename": site.url("/high.wav")}

    with serving(tmp_path, "--engine", "embedded", environment=environment) as server, server.client() as client:
        assert code(client.post(TTS, json=body)) == (400, "DOWNLOAD_REFUSED")

    assert site.asked == []


def test_twenty_who_name_the_same_address_hear_the_same(fetcher: httpx.Client, fetching: Server, site: Site) -> None:
    body = {"text": "Hello there.", "reference_audio_filename": site.url("/high.wav"), "seed": 5}

    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(lambda _: fetcher.post(TTS, json=body), range(20)))

    assert {reply.status_code for reply in replies} == {200}
    first = read(replies[0].content).samples
    assert all(np.array_equal(read(reply.content).samples, first) for reply in replies)
    assert not unfinished(fetching)
